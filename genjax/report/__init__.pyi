from . import grids as grids
