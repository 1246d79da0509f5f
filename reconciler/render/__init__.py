"""render: results of all commands as text, JSON and Markdown; progress on a terminal.

May use every room but `cli`. Does no I/O except on the streams that it is given. Guarantees: names, labels
and messages of peers are shown as text, so no control character reaches a terminal and no markup a pull
request.
"""
