"""The registry answers "no champion" only where there is none."""

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
)

from frontier.tracking import registry


class Client:
    def __init__(self, error: MlflowException) -> None:
        self.error = error

    def get_model_version_by_alias(self, name: str, alias: str) -> None:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        MlflowException("Registered Model with name=frontier-a not found", RESOURCE_DOES_NOT_EXIST),
        MlflowException("Registered model alias champion not found.", INVALID_PARAMETER_VALUE),
    ],
)
def test_no_champion(error: MlflowException) -> None:
    assert registry.by_alias(Client(error), "a", registry.CHAMPION) is None


@pytest.mark.parametrize(
    "error",
    [
        MlflowException("database is locked", TEMPORARILY_UNAVAILABLE),
        MlflowException("disk I/O error", INTERNAL_ERROR),
        MlflowException("Invalid model name", INVALID_PARAMETER_VALUE),
    ],
)
def test_a_store_that_fails_is_not_an_absent_champion(error: MlflowException) -> None:
    with pytest.raises(MlflowException):
        registry.by_alias(Client(error), "a", registry.CHAMPION)
