"""The defaults of the public functions, classes and methods of a package."""

import importlib
import inspect
import pkgutil


def public(module):
    """(name, callable) of a module's functions and classes and of the classes' methods."""
    for name, value in vars(module).items():
        if name[0] == "_" or getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(value):
            yield name, value
        if inspect.isclass(value) and not issubclass(value, Exception):
            yield name, value
            for inner, method in vars(value).items():
                own = inspect.isfunction(method) and method.__module__ == module.__name__
                if own and (inner[0] != "_" or inner == "__call__"):
                    yield f"{name}.{inner}", method


def defaults(package):
    """{(module.callable, parameter): default} of those that have one."""
    found = {}
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for name, value in public(module):
            for parameter in inspect.signature(value).parameters.values():
                if parameter.default is not inspect.Parameter.empty:
                    found[f"{info.name}.{name}", parameter.name] = parameter.default
    return found


def numeric_defaults(package):
    """Those that are numbers, but for True and False."""
    return {
        where: value
        for where, value in defaults(package).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def check_pinned(package, papers, ours):
    """Every numeric default is in one of two tables, {where: (value, paper or reason)}."""
    assert not papers.keys() & ours.keys()
    tables = papers | ours
    assert all(reason for _, reason in tables.values())
    assert numeric_defaults(package) == {where: value for where, (value, _) in tables.items()}
