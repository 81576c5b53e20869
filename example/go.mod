module github.com/entity-sync/entity-sync/example

go 1.26

replace github.com/entity-sync/entity-sync => ../

require (
	github.com/chromedp/chromedp v0.22.1
	github.com/entity-sync/entity-sync v0.0.0-00010101000000-000000000000
	github.com/gorilla/websocket v1.5.3
	github.com/jackc/pgx/v5 v5.12.0
	github.com/nsqio/nsq v1.3.0
	go.uber.org/goleak v1.3.0
	modernc.org/sqlite v1.61.1
)
