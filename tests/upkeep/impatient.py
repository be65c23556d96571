"""A worker that does not wait as long as it should for clocks that differ and for requests that are held up.

On one machine there is one clock; what remains is that the store shows whole seconds.
"""

from activities import sweeping
from activities.contracts import orphans, upkeep

if __name__ == "__main__":
    sweeping.SKEW_SECONDS = 2
    orphans.DELETION_SECONDS = upkeep.REFRESH_SECONDS = 15
    from starter.main import main

    main()
