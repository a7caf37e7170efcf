"""Which report was released to which health station, on what legal basis, and in what order.

Nothing is released that no basis covers. `releasing.apply` compares what the bases allow of one
report with what was released, and writes the difference; each change gets its place in the feed
when its transaction commits.
"""
