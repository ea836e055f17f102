from . import grids as grids
from . import image_sets as image_sets
