"""Counters in the text format of Prometheus."""

from __future__ import annotations

import re

from reconciler.gateway.stream import Metrics

LINE = re.compile(r'[a-z_]+(\{[a-z]+="[a-z0-9]+"(,[a-z]+="[a-z0-9]+")*\})? \d+')


def test_every_line_is_a_comment_or_a_sample_with_its_help_and_type_before_it() -> None:
    metrics = Metrics()
    metrics.answered("car", 200)
    metrics.answered("car", 200)
    metrics.answered("raw", 404)
    metrics.sent(5)
    metrics.cut_off()
    text = metrics.text(roots=2, blocks=30)
    assert text.endswith("\n")
    known = set()
    for line in text.splitlines():
        if line.startswith("# "):
            known.add(line.split()[2])
        else:
            assert LINE.fullmatch(line), line
            assert re.split(r"[{ ]", line)[0] in known
    assert 'reconciler_gateway_requests_total{kind="car",status="200"} 2' in text
    assert "reconciler_gateway_sent_bytes_total 5" in text
    assert "reconciler_gateway_blocks 30" in text
