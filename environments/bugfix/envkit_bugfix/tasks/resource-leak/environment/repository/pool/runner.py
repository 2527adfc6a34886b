"""Jobs with a connection each."""


def run(pool, jobs):
    """The results of the jobs, which are called with a connection, in order; the first error ends it."""
    results = []
    for job in jobs:
        with pool.borrow() as connection:
            results.append(job(connection))
    return results
