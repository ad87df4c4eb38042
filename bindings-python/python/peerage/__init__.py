"""Cluster membership and messaging that a program embeds.

A program starts a `Cluster`, joins others through a seed, and from then on knows who is there, who
is not, and why; it sends requests to other members over mutually authenticated QUIC links. There
is no agent beside the program and no broker. Programs in Rust, Node, Python and C form one
cluster.
"""

from peerage import _cluster, _config, _errors, _events, _failure, _types
from peerage._cluster import *  # noqa: F403
from peerage._config import *  # noqa: F403
from peerage._errors import *  # noqa: F403
from peerage._events import *  # noqa: F403
from peerage._failure import *  # noqa: F403
from peerage._native import Request, generate_secret
from peerage._types import *  # noqa: F403

__all__ = ["Request", "generate_secret"]
__all__ += _cluster.__all__
__all__ += _config.__all__
__all__ += _errors.__all__
__all__ += _events.__all__
__all__ += _failure.__all__
__all__ += _types.__all__
