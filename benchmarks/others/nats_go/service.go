package main

import (
	"fmt"
	"runtime"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// The echo service of the package micro.
func serve(url string, subject string) {
	nc, err := nats.Connect(url)
	check(err)
	service, err := micro.AddService(nc, micro.Config{Name: "echo", Version: "1.0.0"})
	check(err)
	echo := func(request micro.Request) { check(request.Respond(request.Data())) }
	check(service.AddEndpoint("echo", micro.HandlerFunc(echo), micro.WithEndpointSubject(subject)))
	check(nc.Flush())
	fmt.Printf("ready nats.go %s, %s\n", nats.Version, runtime.Version())
	select {}
}
