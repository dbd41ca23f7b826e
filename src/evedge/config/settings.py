"""`Config` as pydantic-settings fills it: which sources there are, and which of two wins.

The library asks each source, joins what they give table by table, and builds the tree from it. What the tree then says
about single values stays with the tree; what is told to people, with `loading`.
"""

from __future__ import annotations

import logging

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from evedge.config.sources import Credentials, Environment, Gathering, Joined, SecretFiles, TomlFile
from evedge.config.tree import Config


class Settings(BaseSettings, Config):
    """The configuration that the sources give. Raises pydantic's ValidationError.

    The gathering is the one argument. What stands in the file comes by a source and not as arguments: the library takes
    some arguments for its own (a key `_env_file` in the file would have it read that).
    """

    model_config = SettingsConfigDict(  # as in `Section`, where the library has other defaults
        validate_default=False, arbitrary_types_allowed=False
    )

    def __init__(self, gathering: Gathering) -> None:
        # With PYDANTIC_SETTINGS_DEBUG set the library logs, at debug, all that the sources gave: secrets too.
        logging.getLogger("pydantic_settings").setLevel(logging.INFO)
        super().__init__(gathering=gathering)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 -- why not these: see `sources`
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The first that gives a value wins."""
        gathering: Gathering = init_settings()["gathering"]
        order = (Environment, TomlFile, SecretFiles, Credentials, Joined)
        return tuple(source(settings_cls, gathering) for source in order)
