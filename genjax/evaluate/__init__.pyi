from . import average as average
from . import dequantization as dequantization
from . import estimate as estimate
from . import features as features
from . import likelihood_scores as likelihood_scores
from . import score as score
from . import sliced_wasserstein as sliced_wasserstein
