from . import network as network
