from . import average as average
from . import dequantization as dequantization
from . import judgement as judgement
from . import likelihood_scores as likelihood_scores
from . import profiles as profiles
from . import sliced_wasserstein as sliced_wasserstein
