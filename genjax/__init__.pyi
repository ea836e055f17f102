from . import cli as cli
from . import data as data
from . import diffusion as diffusion
from . import edit as edit
from . import errors as errors
from . import evaluate as evaluate
from . import files as files
from . import keys as keys
from . import limits as limits
from . import losses as losses
from . import models as models
from . import numerics as numerics
from . import over_batch as over_batch
from . import recipes as recipes
from . import report as report
from . import run as run
from . import train as train

__version__: str
