// The package micro of nats.go.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

const patience = 20 * time.Second

type contract struct {
	Name              string            `json:"name"`
	Version           string            `json:"version"`
	Description       string            `json:"description"`
	Metadata          map[string]string `json:"metadata"`
	EndpointMetadata  map[string]string `json:"endpoint_metadata"`
	FailingQueueGroup string            `json:"failing_queue_group"`
	Code              int               `json:"code"`
	Text              string            `json:"text"`
	UnicodeText       string            `json:"unicode_text"`
	Data              string            `json:"data"`
	Unanswered        string            `json:"unanswered"`
}

type described struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

type result struct {
	Data   string     `json:"data"`
	Traced *string    `json:"traced"`
	Error  *described `json:"error"`
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func say(word string, value any) {
	text, err := json.Marshal(value)
	check(err)
	fmt.Printf("%s%s\n", word, text)
}

func serve(nc *nats.Conn, text string) {
	var wanted contract
	check(json.Unmarshal([]byte(text), &wanted))
	service, err := micro.AddService(nc, micro.Config{
		Name:        wanted.Name,
		Version:     wanted.Version,
		Description: wanted.Description,
		Metadata:    wanted.Metadata,
	})
	check(err)
	group := service.AddGroup(wanted.Name)
	check(group.AddEndpoint("echo", micro.HandlerFunc(func(request micro.Request) {
		if string(request.Data()) == wanted.Unanswered {
			return
		}
		if trace := request.Headers().Get("Trace"); trace != "" {
			check(request.Respond(request.Data(), micro.WithHeaders(micro.Headers{"Traced": {trace}})))
			return
		}
		check(request.Respond(request.Data()))
	}), micro.WithEndpointMetadata(wanted.EndpointMetadata)))
	// A handler of Go returns nothing, so the only failures are those that it reports.
	check(group.AddEndpoint("fail", micro.HandlerFunc(func(request micro.Request) {
		text := map[string]string{"expected": wanted.Text, "unicode": wanted.UnicodeText}[string(request.Data())]
		if text == "" {
			check(request.Error("500", "the colour of the database", nil))
			return
		}
		check(request.Error(strconv.Itoa(wanted.Code), text, []byte(wanted.Data)))
	}), micro.WithEndpointQueueGroup(wanted.FailingQueueGroup)))
	check(nc.Flush())
	say("ready ", map[string]string{"id": service.Info().ID, "versions": "nats.go " + nats.Version + ", " + runtime.Version()})
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		service.Reset()
		fmt.Println("done")
	}
}

func collect[T any](nc *nats.Conn, verb micro.Verb, name string, id string, count int) []T {
	// It has no client for services; its types read their replies.
	subject, err := micro.ControlSubject(verb, name, id)
	check(err)
	inbox := nc.NewRespInbox()
	subscription, err := nc.SubscribeSync(inbox)
	check(err)
	check(nc.PublishRequest(subject, inbox, nil))
	replies := make([]T, count)
	for index := range replies {
		message, err := subscription.NextMsg(patience)
		check(err)
		check(json.Unmarshal(message.Data, &replies[index]))
	}
	check(subscription.Unsubscribe())
	return replies
}

func ask[T any](nc *nats.Conn, verb micro.Verb, name string, id string, count int) map[string][]T {
	return map[string][]T{
		"all":  collect[T](nc, verb, "", "", count),
		"name": collect[T](nc, verb, name, "", count),
		"id":   collect[T](nc, verb, name, id, 1),
	}
}

func discover(nc *nats.Conn, name string, id string, text string) {
	count, err := strconv.Atoi(text)
	check(err)
	say("", map[string]any{
		"PING":  ask[micro.Ping](nc, micro.PingVerb, name, id, count),
		"INFO":  ask[micro.Info](nc, micro.InfoVerb, name, id, count),
		"STATS": ask[micro.Stats](nc, micro.StatsVerb, name, id, count),
	})
}

func request(nc *nats.Conn, text string) {
	var wanted [][3]string
	check(json.Unmarshal([]byte(text), &wanted))
	results := map[string]result{}
	for _, each := range wanted {
		message := nats.NewMsg(each[1])
		message.Data = []byte(each[2])
		message.Header.Set("Trace", "a-1")
		reply, err := nc.RequestMsg(message, patience)
		check(err)
		found := result{Data: string(reply.Data)}
		if traced := reply.Header.Get("Traced"); traced != "" {
			found.Traced = &traced
		}
		if text := reply.Header.Get(micro.ErrorHeader); text != "" {
			found.Error = &described{reply.Header.Get(micro.ErrorCodeHeader), text}
		}
		results[each[0]] = found
	}
	say("", results)
}

type grouped struct {
	Name       string            `json:"name"`
	Group      string            `json:"group"`
	Subject    string            `json:"subject"`
	QueueGroup string            `json:"queue_group"`
	Metadata   map[string]string `json:"metadata"`
}

type examined struct {
	Name        string            `json:"name"`
	Version     string            `json:"version"`
	Description string            `json:"description"`
	Metadata    map[string]string `json:"metadata"`
	Groups      []grouped         `json:"groups"`
	Endpoints   []grouped         `json:"endpoints"`
}

func offer(nc *nats.Conn, wanted examined) micro.Service {
	service, err := micro.AddService(nc, micro.Config{
		Name:         wanted.Name,
		Version:      wanted.Version,
		Description:  wanted.Description,
		Metadata:     wanted.Metadata,
		StatsHandler: func(endpoint *micro.Endpoint) any { return map[string]string{"endpoint": endpoint.Name} },
	})
	check(err)
	groups := map[string]micro.Group{"": service.AddGroup("")}
	for _, each := range wanted.Groups {
		var options []micro.GroupOpt
		if each.QueueGroup != "" {
			options = append(options, micro.WithGroupQueueGroup(each.QueueGroup))
		}
		groups[each.Name] = service.AddGroup(each.Name, options...)
	}
	for _, each := range wanted.Endpoints {
		handler := func(request micro.Request) { check(request.Respond(request.Data())) }
		if each.Name == "faulty" {
			handler = func(request micro.Request) { check(request.Error("500", "handler error", nil)) }
		}
		options := []micro.EndpointOpt{micro.WithEndpointSubject(each.Subject), micro.WithEndpointMetadata(each.Metadata)}
		if each.QueueGroup != "" {
			options = append(options, micro.WithEndpointQueueGroup(each.QueueGroup))
		}
		check(groups[each.Group].AddEndpoint(each.Name, micro.HandlerFunc(handler), options...))
	}
	check(nc.Flush())
	return service
}

func takePart(nc *nats.Conn) {
	steps, err := nc.SubscribeSync("tests.service.core.>")
	check(err)
	check(nc.Flush())
	fmt.Println("ready")
	first, err := steps.NextMsg(patience)
	check(err)
	var step struct {
		Config examined `json:"config"`
	}
	check(json.Unmarshal(first.Data, &step))
	service := offer(nc, step.Config)
	check(first.Respond(nil))
	last, err := steps.NextMsg(patience)
	check(err)
	check(service.Stop())
	check(nc.Flush())
	check(last.Respond(nil))
	verdict, err := steps.NextMsg(patience)
	check(err)
	fmt.Println(strings.TrimPrefix(verdict.Subject, "tests.service.core."))
}

func main() {
	nc, err := nats.Connect(os.Args[2])
	check(err)
	defer nc.Close()
	switch os.Args[1] {
	case "serve":
		serve(nc, os.Args[3])
	case "take-part":
		takePart(nc)
	case "discover":
		discover(nc, os.Args[3], os.Args[4], os.Args[5])
	case "request":
		request(nc, os.Args[3])
	}
}
