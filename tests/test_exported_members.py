"""The public names: a change here is a change for users."""

import headstart


def test_public_names() -> None:
    assert headstart.__all__ == ["Experiment", "RunResult", "__version__", "resume", "run"]
    for name in headstart.__all__:
        assert getattr(headstart, name) is not None
    assert dir(headstart) == sorted(headstart.__all__)


def test_run_stays_a_function_once_the_package_is_loaded() -> None:
    import headstart.runs.runner

    assert callable(headstart.run)
    assert isinstance(headstart.run, type(headstart.runs.runner.run))
