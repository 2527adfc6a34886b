"""People by their names."""

from people.keys import key
from people.person import Person


class Directory:
    def __init__(self):
        self._people = {}

    def add(self, name, mail=""):
        """The person of this name, entered if there is none yet; a mail that is given replaces the old one."""
        known = self._people.get(key(name))
        person = Person(name if known is None else known.name, mail or (known.mail if known else ""))
        self._people[key(name)] = person
        return person

    def find(self, name):
        return self._people.get(key(name))

    def names(self):
        return sorted((person.name for person in self._people.values()), key=key)

    def __len__(self):
        return len(self._people)
