from . import commands as commands
from . import list_runs as list_runs
from . import main as main
from . import options as options
from . import report as report
from . import restart as restart
from . import score as score
from . import startup as startup
