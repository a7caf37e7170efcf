"""Who saw what: a journal that is only ever appended to, each entry chained to the one before.

    journal.append(session, Entry(Kind.VIEW, …))     in the transaction of what it tells of
    journal.find(session, Search(patient_id=…))      newest first
    chain.verify(session)                            every entry is there, and as it was written

An entry gets its place in the chain when its transaction commits, under a lock that is held for
the length of that commit: so places follow the order of commits, without a gap, over any number
of processes, and no transaction waits for another while it works.
"""
