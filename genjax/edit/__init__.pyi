from . import operator as operator
