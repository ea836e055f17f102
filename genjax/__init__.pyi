from . import cli as cli
from . import data as data
from . import diffusion as diffusion
from . import evaluate as evaluate
from . import losses as losses
from . import models as models
from . import report as report
from . import run as run
from . import train as train

__version__: str
