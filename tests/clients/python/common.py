"""What the scripts of the official clients share: where the mesh is, and who asks."""

import os

BASE = os.environ["MESH_TEST_URL"]
KEY = os.environ["MESH_TEST_KEY"]


def agent(name: str) -> str:
    """The name that the test gave the agent which plays that part."""
    return os.environ[f"MESH_TEST_AGENT_{name.upper()}"]


def raises(kind, action):
    """The exception of that kind which the action raises."""
    try:
        action()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__} was raised")
