"""The `stenobox` command."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from tasks import __version__, children, crashes, devices, logs, machine, metrics
from tasks import models as models_here
from tasks.config import KEY, PASSWORD, VARIABLES, Config, ConfigError, from_env
from tasks.db import SchemaError, open_database, prepare_data_folder
from tasks.errors import CommandError, StenoboxError
from tasks.recovery import AlreadyRunning, take_data_folder
from webapp import light
from webapp.keys_cli import key_options, run_keys
from webapp.password_cli import password_options, prepare_doors, run_password, take_password, where

if TYPE_CHECKING:
    import argparse

logger = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0 done, 1 failed, 2 wrong usage or configuration."""
    os.umask(0o077)  # what this program writes is nobody else's business
    try:
        password = take_password()
        options = _options(sys.argv[1:] if arguments is None else arguments)
        logs.begin(options.command)
    except KeyboardInterrupt:
        return _say("stopped", 130)
    except SystemExit:  # after its help, or what is wrong with the options
        _say_no_more()
        raise
    try:
        if options.command not in _SERVING:
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # to leave nothing behind then, either
        config = from_env()
        _check(config, options.command)
        options.password = password
        status: int = options.run(config, options)
        sys.stdout.flush()
        return status
    except ConfigError as error:
        return _say(str(error), 2, options.command)
    except StenoboxError as error:
        return _say(error.message, 1, options.command)
    except (SchemaError, AlreadyRunning, CommandError) as error:
        return _say(str(error), 1, options.command)
    except KeyboardInterrupt:
        return _say("stopped", 130, options.command)
    except BrokenPipeError:  # who read it has enough, as `head` has
        _say_no_more()
        return 141
    except OSError as error:
        if options.command in _SERVING:  # the log has a place for all of it
            raise
        _say_no_more()
        return _say(f"{error.filename or 'The output'} can't be used: {error.strerror or error}.", 1, options.command)


_SERVING = ("serve", "web", "worker")


def _say_no_more() -> None:
    """What could not be written out is not tried again at the end of the process."""
    try:
        sys.stdout.flush()
    except OSError:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)


def _check(config: Config, command: str) -> None:
    """What is wrong only on this machine: a GPU, a model or a number of bytes that it hasn't. Raises ConfigError."""
    if command not in ("web", "worker"):  # those of a box that runs: a GPU that failed since must not stop it
        devices.check(config)
    machine.check_stated()
    try:
        models_here.find(config, config.model)
    except StenoboxError as error:
        sentence = f"STENOBOX_MODEL={config.model!r} can't be used as model of jobs that name none: {error.message}"
        raise ConfigError(f"{sentence} For example: STENOBOX_MODEL=small") from None
    if config.inbox:
        _check_inbox(config)


def _check_inbox(config: Config) -> None:
    """What its files are to become. Raises ConfigError."""
    from tasks.transcripts import FORMATS
    from tasks.wishes import check_transcription

    if not config.inbox_forms or set(config.inbox_forms) - set(FORMATS):
        raise ConfigError(
            f"STENOBOX_INBOX_FORMATS={config.inbox_formats!r} can't be used as transcripts laid beside the inbox's "
            f"files: choose from {', '.join(FORMATS)}. For example: STENOBOX_INBOX_FORMATS=txt,srt"
        )
    for variable, value, wanted in (
        ("STENOBOX_INBOX_MODEL", config.inbox_model, (config.inbox_model or None, None)),
        ("STENOBOX_INBOX_LANGUAGE", config.inbox_language, (config.inbox_model or None, config.inbox_language or None)),
    ):
        try:
            check_transcription(config, *wanted)
        except StenoboxError as error:
            raise ConfigError(f"{variable}={value!r} can't be used for the inbox's files: {error.message}") from None


def _options(arguments: list[str]) -> argparse.Namespace | SimpleNamespace:
    if arguments == ["web"]:  # as the supervisor starts it: what reads a command line is half a megabyte
        return SimpleNamespace(run=web, command="web")
    return _parser().parse_args(arguments)


def _parser() -> argparse.ArgumentParser:
    import argparse

    parser = argparse.ArgumentParser(
        prog="stenobox",
        description="A transcription box. Without a command it serves the web page and runs jobs.",
        epilog="Environment: " + ", ".join([*VARIABLES.values(), PASSWORD, KEY]) + ". See the README.",
    )
    parser.add_argument("--version", action="version", version=f"stenobox {__version__}")
    parser.set_defaults(run=serve, command="serve")
    commands = parser.add_subparsers(metavar="COMMAND")

    def add(name: str, run: object, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run, command=name)
        return command

    add("serve", serve, "Serve the page and the API, and run jobs (the default).")
    add("web", web, "Only the page and the API.")
    add("worker", worker, "Only the worker that runs jobs.")
    command = add("transcribe", transcribe, "Transcribe one file, without a server.")
    command.add_argument("file", type=Path)
    command.add_argument("--model", help="name of a model (default: STENOBOX_MODEL, else demo)")
    command.add_argument("--language", help="code such as en or de (default: detect)")
    command.add_argument("--format", default="txt", help="txt, srt, vtt, csv or json (default: txt)")
    command = add("models", models, "List the models, or download one.")
    command.add_argument("download", nargs="?", metavar="NAME", help="model to download")
    command.add_argument(
        "--languages", default="en", metavar="CODES",
        help="with it what finds the times of words in these languages, such as en,de (default: en)",
    )  # fmt: skip
    command = add("backup", backup, "Write the box to one file. It may run meanwhile.")
    command.add_argument("file", type=Path, metavar="FILE", help="a tar file, for example box.tar")
    command.add_argument("--media", action="store_true", help="with the recordings of finished jobs too")
    command = add("restore", restore, "Bring a backup back into an empty data folder.")
    command.add_argument("file", type=Path, metavar="FILE", help="what `stenobox backup` wrote")
    command = add("doctor", doctor, "Look at this machine and this box, and say what to do.")
    command.add_argument("--json", action="store_true", help="as JSON")
    submit_options(add("submit", submit, "Send many recordings to a box, each when it has room, and wait for them."))
    key_options(add("keys", run_keys, "Make, list, rotate and revoke the keys that programs come with."))
    password_options(add("password", run_password, "Set or reset the password of the page."))
    bench_options(add("bench", bench, "Measure how many recordings this box should transcribe at once."))
    return parser


def submit_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("files", nargs="*", metavar="FILE", help="recordings to send, folders of them, or links")
    command.add_argument("--list", metavar="FILE", help="a file that names one recording or link a line; - for stdin")
    command.add_argument("--server", metavar="URL", help="the box (default: the one on this machine)")
    command.add_argument("--model", help="name of a model (default: the box's own)")
    command.add_argument("--language", help="code such as en or de (default: detect)")
    command.add_argument("--batch", metavar="NAME", help="put them into the box's batch of this name")
    command.add_argument("--out", type=Path, metavar="FOLDER", help="put the transcripts there")
    command.add_argument(
        "--format", default="txt", help="of the transcripts: txt, srt, vtt, csv or json (default: txt)"
    )
    command.add_argument("--state", type=Path, metavar="FILE", help="what was sent (default: in --out, else here)")


def bench_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", help="name of a model (default: STENOBOX_MODEL, else demo)")
    command.add_argument("--concurrent", type=int, metavar="N", help="recordings at once (default: 1)")
    command.add_argument("--test-all", action="store_true", help="1, 2, 4, … at once, and find the best")
    command.add_argument("--seconds", type=float, default=120.0, help="length of each recording (default: 120)")
    command.add_argument(
        "--synthetic", action="store_true", help="random weights of the model's true size; is so where it is not here"
    )
    command.add_argument("--against", metavar="URL", help="send N recordings at once to a box that runs there")
    command.add_argument("--check-costs", action="store_true", help="compare what jobs need with what was predicted")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    command.add_argument("--svg", type=Path, metavar="FILE", help="draw them there")
    command.add_argument("--apply", action="store_true", help="store the best number as this box's limit")


def serve(config: Config, options: argparse.Namespace) -> int:
    from tasks.queue import Queue
    from webapp.standin import wait_until_writable
    from webapp.supervisor import PortTaken, become_supervisor, check_ports

    try:
        check_ports(config)
    except PortTaken as error:
        return _say(str(error), 1, "serve")
    if not wait_until_writable(config):
        return 0
    prepare_data_folder(config)
    for name in ("web", "worker"):  # said once, here, instead of in a restart loop
        take_data_folder(config, name).close()
    open_database(config).close()  # upgraded once, here, so that neither process has to
    metrics.forget(config)
    prepare_doors(config, options.password, again=False)
    Queue(config.queue_db).close()  # replaced if damaged: two processes doing that would end with a file each
    os.environ[logs.VARIABLE] = logs.style_of("serve")  # its processes write into pipes
    if os.environ[logs.VARIABLE] == "json":
        logger.info("Stenobox %s is at %s (data in %s)", __version__, where(config), config.data)
    else:
        print(f"Stenobox {__version__} is at {where(config)}  (data in {config.data}; Ctrl-C stops it)")
    if config.answers_addresses:
        logger.warning(
            "It answers to any address of this machine and to no name: for a name, set STENOBOX_HOSTS=stenobox.lan"
        )
    os.environ.pop(KEY, None)  # of whoever started it: no process of a box needs one
    become_supervisor(config)
    raise AssertionError("unreachable")


def web(config: Config, options: argparse.Namespace) -> int:
    with light.imports():
        from webapp.app import create_app
        from webapp.server import Server

    children.die_with_parent(expendable=False)
    metrics.begin(config)
    prepare_doors(config, options.password, again=True)
    with take_data_folder(config, "web"):
        crashes.watch(config.run, "web")
        server = Server(config, create_app(config))
        server.run()
    return 0 if server.started else 3


def worker(config: Config, _: argparse.Namespace) -> int:
    from tasks.worker import run

    children.die_with_parent(expendable=False)
    metrics.begin(config)
    run(config)
    return 0


def transcribe(config: Config, options: argparse.Namespace) -> int:
    from webapp.offline import transcribe_file

    logging.getLogger().setLevel(logging.WARNING)
    print(transcribe_file(config, options.file, options.model, options.language, options.format), end="")
    return 0


def models(config: Config, options: argparse.Namespace) -> int:
    from webapp.offline import download_model, list_models

    if options.download:
        print(*download_model(config, options.download, options.languages), sep="\n")
    else:
        print(list_models(config), end="")
    return 0


def doctor(config: Config, options: argparse.Namespace) -> int:
    from webapp.checkup import run

    return run(config, as_json=options.json, password=options.password)


def backup(config: Config, options: argparse.Namespace) -> int:
    from tasks.backup import backup as run

    print(f"{options.file}: {run(config, options.file, recordings=options.media)}")
    return 0


def restore(config: Config, options: argparse.Namespace) -> int:
    from tasks.backup import restore as run

    print(f"{config.data}: {run(config, options.file)}")
    return 0


def submit(config: Config, options: argparse.Namespace) -> int:
    from webapp.named import read_list
    from webapp.submit import Batch
    from webapp.submit import submit as run
    from webapp.supervisor import address

    logging.getLogger().setLevel(logging.WARNING)
    files = read_list(options.files, options.list)
    server = options.server or address(config)
    return run(
        Batch(
            files,
            server,
            options.model,
            options.language,
            options.out,
            options.format.lower(),
            options.state,
            os.environ.get(KEY, ""),
            options.batch or "",
        )
    )


def bench(config: Config, options: argparse.Namespace) -> int:
    from webapp.bench import run

    logging.getLogger().setLevel(logging.WARNING)
    return run(config, options)


def _say(sentence: str, status: int, command: str = "") -> int:
    if logs.style_of(command) == "json":
        logger.error(sentence)
    else:
        print(f"stenobox: {sentence}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
