"""The game, its step, its layouts over devices, checkpoints and the loop."""
