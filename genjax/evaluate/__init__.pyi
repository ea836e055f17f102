from . import average as average
from . import dequantization as dequantization
from . import sliced_wasserstein as sliced_wasserstein
