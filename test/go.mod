module github.com/entity-sync/entity-sync/test

go 1.26

replace github.com/entity-sync/entity-sync => ../

require github.com/entity-sync/entity-sync v0.0.0-00010101000000-000000000000
