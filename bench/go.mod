module github.com/entity-sync/entity-sync/bench

go 1.26.0

replace github.com/entity-sync/entity-sync => ../
