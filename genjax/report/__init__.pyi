from . import embedding as embedding
from . import grids as grids
from . import image_sets as image_sets
from . import judging as judging
from . import page as page
from . import plots as plots
from . import rendering as rendering
