"""MaintainTables: one door for exports, changelogs and mirrors, of which each is kept in order by its own loop."""
