from .export import load_weights as load_weights
from .family import Family as Family
from .family import Measure as Measure
from .restored import RestoredRun as RestoredRun
from .restored import load as load
from .restored import open as open
from .settings import Settings as Settings
from .training import train as train
