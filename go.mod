module github.com/entity-sync/entity-sync

go 1.26.0

require (
	github.com/gorilla/mux v1.8.1
	github.com/gorilla/websocket v1.5.3
	github.com/nsqio/go-nsq v1.1.0
	go.uber.org/goleak v1.3.0
	golang.org/x/time v0.16.0
	pgregory.net/rapid v1.3.0
)

require github.com/golang/snappy v0.0.1 // indirect
