from . import interpolation as interpolation
from . import operator as operator
