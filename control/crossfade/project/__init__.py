"""The project on disk and what is installed: settings, releases, migrations."""
