from . import chains as chains
from . import hamiltonian as hamiltonian
from . import interpolation as interpolation
from . import latent_density as latent_density
from . import latent_maximum as latent_maximum
from . import latent_sampling as latent_sampling
from . import operator as operator
