"""The names of the data modules in the commands' help."""

import inspect

from vtadl import data
from vtadl.cli.data_modules import DATA_MODULES


def test_the_help_lists_every_data_module() -> None:
    modules = [getattr(data, name) for name in data.__all__]
    usable = {
        module.__name__
        for module in modules
        if inspect.isclass(module)
        and issubclass(module, data.ImageDataModule)
        and not inspect.isabstract(module)
    }
    assert set(DATA_MODULES) == usable
