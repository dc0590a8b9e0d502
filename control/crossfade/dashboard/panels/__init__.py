"""One module per panel: a ``View`` -> HTML. Pure; everything from outside is escaped by Markup."""
