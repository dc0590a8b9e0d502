"""Edge functions as processes: one Deno each, with what a hosted isolate may do and see."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from dotenv import dotenv_values

from crossfade.local.deno_runtime import deno_bin, deno_environment
from crossfade.local.errors import StackStartError
from crossfade.local.ports import HOST
from crossfade.local.processes import Child, ChildOptions, spawn
from crossfade.local.state import StackInfo

# What Deno itself needs from our environment; everything else would not be there when hosted.
_PASSED_ON = (
    "HOME",
    "PATH",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "DENO_DIR",
    "DENO_CERT",
    "DENO_TLS_CA_STORE",
    "NPM_CONFIG_REGISTRY",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
)


class FunctionRunner:
    """Starts processes of the project's edge functions."""

    def __init__(
        self,
        *,
        folder: Path,
        gateway_sources: Path,
        logs: Path,
        info: StackInfo,
        env: Mapping[str, str],
    ) -> None:
        """Describe where functions lie and what they get to see.

        Args:
            folder: holds ``<name>/index.ts`` and perhaps ``.env``.
            gateway_sources: holds the prelude.
            logs: folder of the log files.
            info: the stack they belong to.
            env: more environment; it wins over the folder's ``.env``.
        """
        self._folder = folder
        self._prelude = gateway_sources / "isolate_prelude.ts"
        self._logs = logs
        self._info = info
        self._env = {**_env_file(folder / ".env"), **env}

    def start(self, name: str, *, label: str, port: int, env: Mapping[str, str]) -> Child:
        """Start one process; it is up when somebody listens on the port.

        Args:
            name: folder of the function.
            label: name of the process and of its log.
            port: where it serves on 127.0.0.1.
            env: more environment for this process; it wins.

        Raises:
            StackStartError: there is no such function.
        """
        entry = self._folder / name / "index.ts"
        if not entry.exists():
            raise StackStartError(f'Cannot start function "{name}": {entry} does not exist')
        environment = self._environment({**self._env, **env}, port)
        # Only one process's own environment may name another address of the API, such as a proxy's.
        environment["SUPABASE_URL"] = env.get("SUPABASE_URL", self._info.api_url)
        config = entry.with_name("deno.json")
        command: list[str | Path] = [
            deno_bin(),
            "run",
            "--quiet",
            "--no-prompt",
            *(["--config", config] if config.exists() else ["--no-config"]),
            *([] if entry.with_name("deno.lock").exists() else ["--no-lock"]),
            f"--preload={self._prelude}",
            "--allow-env",
            f"--allow-net={','.join(self._hosts(environment))}",
            f"--allow-read={self._folder}",
            entry,
        ]
        log = self._logs / f"{label}.log"
        return spawn(label, command, ChildOptions(env=environment, log=log))

    def _environment(self, own: Mapping[str, str], port: int) -> dict[str, str]:
        inherited = deno_environment()
        return {
            **{
                name: value
                for name, value in inherited.items()
                if name.upper() in _PASSED_ON or name in ("DENO_NO_UPDATE_CHECK", "NO_COLOR")
            },
            # Hosted, every isolate would be a Realtime connection of the quota; here a kill should
            # be seen at once. Whoever sets it, in .env or in a test, wins.
            "CROSSFADE_BROADCAST": "on",
            **own,
            "SUPABASE_URL": self._info.api_url,
            "SUPABASE_PUBLISHABLE_KEYS": f'{{"default":"{self._info.publishable_key}"}}',
            "SUPABASE_SECRET_KEYS": f'{{"default":"{self._info.secret_key}"}}',
            "SUPABASE_DB_URL": self._info.db_url,
            "DENO_SERVE_ADDRESS": f"tcp:{HOST}:{port}",
        }

    @staticmethod
    def _hosts(environment: Mapping[str, str]) -> list[str]:
        model = urlsplit(environment.get("MODEL_URL", ""))
        return [HOST, "localhost", *([model.netloc.rpartition("@")[2]] if model.netloc else [])]


def _env_file(path: Path) -> dict[str, str]:
    # Nothing is put in for $NAME: a dollar sign in a secret stays one.
    found = dotenv_values(path, interpolate=False)
    return {name: value for name, value in found.items() if value is not None}
