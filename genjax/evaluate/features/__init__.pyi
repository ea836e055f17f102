from . import efficientnet as efficientnet
from . import imagenet as imagenet
from . import inception as inception
from . import layers as layers
from . import network as network
from . import resizing as resizing
from . import weights as weights
