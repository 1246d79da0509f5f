"""Counters in the text format of Prometheus."""

from __future__ import annotations

import re

from reconciler.gateway.admission import Metrics

LINE = re.compile(r'[a-z_]+(\{[a-z]+="[a-z0-9]+"(,[a-z]+="[a-z0-9]+")*\})? \d+')


def test_every_sample_has_help_and_type_before_it() -> None:
    metrics = Metrics()
    metrics.count_response("car", 200)
    metrics.count_response("car", 200)
    metrics.count_response("raw", 404)
    metrics.count_sent(5)
    metrics.count_cut_off()
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
