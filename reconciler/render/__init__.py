"""render: plan, report and status as text, JSON and Markdown; progress on a terminal.

May use: `loop` for what it shows, and what is below. No I/O but the stream it is given.
Promises: whatever a name, a label or a peer's text holds, it is shown as text: no control character reaches a
terminal, no markup a pull request.
"""
