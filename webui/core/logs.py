"""One form for every log line, of Django, Celery, libraries and our own: level, logger, text, key=value."""

from __future__ import annotations

import structlog
from structlog.types import EventDict, Processor


def formatter() -> structlog.stdlib.ProcessorFormatter:
    """For LOGGING: lines without a time, which the supervisor puts before each."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(allow=("operation", "container", "status_code")),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _line,
        ],
    )


def _line(_: object, __: str, event: EventDict) -> str:
    """ "WARNING webui.core.publish: Updates are not published… operation=7f…", and a traceback below."""
    level = str(event.pop("level", "info")).upper()
    name = event.pop("logger", "")
    trace = event.pop("exception", "")
    text = event.pop("event", "")
    pairs = "".join(f" {key}={value}" for key, value in event.items())
    return f"{level} {name}: {text}{pairs}" + (f"\n{trace}" if trace else "")
