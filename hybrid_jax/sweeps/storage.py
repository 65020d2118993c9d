"""Store the trials of a search in SQLite in its folder, or in PostgreSQL."""

import contextlib
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hybrid_jax.errors import UserError, first_line, plural
from hybrid_jax.extras import import_extra
from hybrid_jax.sweeps import samplers
from hybrid_jax.sweeps.claims import waiting_lock
from hybrid_jax.sweeps.search import Kept, Search, keep

if typing.TYPE_CHECKING:
    from optuna import Study

SQLITE = "study.sqlite3"  # in the folder of a search
BUSY_SECONDS = 60  # how long SQLite waits for another worker's turn
SECRETS = ("password", "sslpassword")  # in the query of a URL
# A host that vanishes frees its lock after a minute, not after two hours.
KEEPALIVES = {
    "tcp_keepalives_idle": 30,  # seconds
    "tcp_keepalives_interval": 10,
    "tcp_keepalives_count": 3,
}
URL = re.compile(r"postgres(?:ql)?(?:\+\w+)?(://.+)", re.DOTALL)


class Store:
    """The storage of a search's trials.

    Attributes:
      study: Optuna's study with the trials.
    """

    def __init__(self, search: Search, folder: Path, url: str = "") -> None:
        """Open the storage of a search, and check that the folder is that search's.

        Args:
          search: the search that is asked for.
          folder: folder of the search.
          url: URL of a PostgreSQL database; empty is SQLite in the folder.

        Raises:
          UserError: the folder holds another search, or the storage fails.
        """
        self._folder, self._is_shared = folder, bool(url)
        optuna, url = samplers.optuna(), check_url(url) if url else ""
        kept = keep(search, folder, _without_password(url) or SQLITE)
        # Workers that start together would create the same tables at the same time.
        with self.errors(), waiting_lock(folder):
            self._storage = _open(optuna, folder, url)
            if url and not kept.is_new:
                self._refuse_other_database(kept)
            self.study: Study = optuna.create_study(
                study_name=kept.name,
                storage=self._storage,
                direction="maximize",
                load_if_exists=True,
            )
            if kept.is_new:
                self._refuse_lost_trials()

    def _refuse_other_database(self, kept: Kept) -> None:
        """Refuse a database without the trials of the folder.

        Raises:
          UserError: it does not know the sweep.
        """
        try:
            self._storage.get_study_id_from_name(kept.name)
        except KeyError:
            raise UserError(
                f"--storage knows no trial of the sweep in --workdir={self._folder}, "
                f"which began in {kept.storage}: give that database, or another "
                "--workdir to start anew"
            ) from None

    def _refuse_lost_trials(self) -> None:
        """Refuse a folder without the runs of the trials that have ended.

        Raises:
          UserError: the storage has such trials, as of another folder.
        """
        ended = [t for t in self.study.get_trials(False) if t.state.is_finished()]
        trials = plural(len(ended), "trial")
        if ended and not self._is_shared:
            raise UserError(
                f"{self._folder / SQLITE} has {trials} of this sweep, whose runs are "
                "gone: put them back, or delete this file to start anew"
            )
        if ended:
            raise self._elsewhere(trials)

    @property
    def has_locks(self) -> bool:
        """Whether all workers see the locks of the folder, as SQLite needs, too."""
        return not self._is_shared

    def check_runs(self, number: int, folder: Path) -> None:
        """Refuse a trial that another folder's worker has begun.

        In SQLite, the storage is in the folder, so that missing runs were deleted.

        Args:
          number: of the trial.
          folder: folder of the trial.

        Raises:
          UserError: the trial is in PostgreSQL, and its folder does not exist.
        """
        if self._is_shared and not folder.exists():
            raise self._elsewhere(f"trial {number}")

    def _elsewhere(self, trials: str) -> UserError:
        return UserError(
            f"--storage knows {trials} of this sweep, whose runs are not in "
            f"--workdir={self._folder}: give the folder that they are in, or a folder "
            "with another name to start anew"
        )

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn an error of the database into an error that a user can fix.

        Raises:
          UserError: the database cannot be reached, or reports an error, or another
            worker has ended this worker's trial.
        """
        from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except UpdateFinishedTrialError:
            raise UserError(
                "another worker has ended a trial that this one ran too, as if this "
                "one had died: run the same command to resume"
            ) from None
        except (SQLAlchemyError, StorageInternalError) as error:
            what = first_line(error.__cause__ or error)
            if self._is_shared:
                name, advice = "--storage", "check that its database can be reached"
            else:
                name = str(self._folder / SQLITE)
                advice = "free the disk if it is full, delete the file if it is damaged"
            raise UserError(
                f"{name} fails ({what}): {advice}, and run the same command to resume"
            ) from None

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Exclude the search's other workers, on any machine, from a `with` block."""
        if not self._is_shared:
            with waiting_lock(self._folder):
                yield
            return
        from sqlalchemy import text

        # Some shared folders do not show locks to other machines; the database does.
        key = {"key": hash_of(self.study.study_name)}
        with self.errors(), self._storage.engine.connect() as connection:
            for name, value in KEEPALIVES.items():
                connection.execute(text(f"SET {name} = {value}"))
            connection.execute(text("SELECT pg_advisory_lock(:key)"), key)
            try:
                yield
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), key)


def hash_of(name: str) -> int:
    """Return the last 15 hexadecimal digits of a name as a number of 60 bits."""
    return int(name[-15:], 16)


def check_url(url: str) -> str:
    """Return the URL of a PostgreSQL database, with the psycopg driver in it.

    Raises:
      UserError: the URL is for another database or cannot be read, or the driver is not
        installed.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    match = URL.fullmatch(url)
    if not match:
        raise UserError(
            f"--storage={_without_password(url)} is not allowed: leave it out for "
            "SQLite in the workdir, or give postgresql://USER@HOST/DATABASE"
        )
    import_extra("psycopg", extra="sweep", purpose="--storage=postgresql")
    url = f"postgresql+psycopg{match[1]}"
    try:
        make_url(url)
    except (ArgumentError, ValueError):
        raise UserError(
            f"--storage={_without_password(url)} has a host or a port that cannot be "
            "read: give postgresql://USER@HOST:PORT/DATABASE"
        ) from None
    return url


def _open(optuna: Any, folder: Path, url: str) -> Any:
    from sqlalchemy.engine import URL as SqlUrl

    if url:
        return optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    path = SqlUrl.create("sqlite", database=str((folder / SQLITE).absolute()))
    return optuna.storages.RDBStorage(
        path.render_as_string(hide_password=False),
        engine_kwargs={"connect_args": {"timeout": BUSY_SECONDS}},
    )


def _without_password(url: str) -> str:
    """Return a URL that may be stored and shown."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    # One that cannot be read is not allowed, but shown.
    with contextlib.suppress(ArgumentError, ValueError):
        bare = make_url(url).set(password="").difference_update_query(SECRETS)
        url = bare.render_as_string(hide_password=False)
    url = re.sub(rf"(?<=[?&])(?:{'|'.join(SECRETS)})=[^&]*&?", "", url)
    # A password with an @ is taken for a part of the host.
    return re.sub(r"(?<=://)([^:@/]*)(?::.*|[^/?]*)@", r"\1@", url)
