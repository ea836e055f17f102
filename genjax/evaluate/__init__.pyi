from . import average as average
from . import classification as classification
from . import dequantization as dequantization
from . import features as features
from . import likelihood_scores as likelihood_scores
from . import lpips as lpips
from . import sliced_wasserstein as sliced_wasserstein
