package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

const patience = 10 * time.Second

var payload = []byte("0123456789abcdef")

type timer struct {
	start time.Time
	cpu   time.Duration
}

func cpu() time.Duration {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func now() timer {
	return timer{time.Now(), cpu()}
}

func (start timer) stop() {
	taken, err := json.Marshal(map[string]float64{
		"seconds":     time.Since(start.start).Seconds(),
		"cpu_seconds": (cpu() - start.cpu).Seconds(),
	})
	check(err)
	fmt.Printf("done %s\n", taken)
}

func ready() {
	fmt.Printf("ready nats.go %s, %s\n", nats.Version, runtime.Version())
}

func request(nc *nats.Conn, subject string, count int, callers int) {
	var all sync.WaitGroup
	for first := range min(callers, count) {
		all.Go(func() {
			for number := first; number < count; number += callers {
				_, err := nc.Request(subject, payload, patience)
				check(err)
			}
		})
	}
	all.Wait()
}

func publish(nc *nats.Conn, subject string, count int) {
	for range count {
		check(nc.Publish(subject, payload))
	}
	check(nc.Flush())
}

func receive(nc *nats.Conn, subject string, count int, warmUp int) {
	enough := make(chan struct{})
	received := 0
	var start timer
	_, err := nc.Subscribe(subject, func(*nats.Msg) {
		received++
		switch received {
		case warmUp:
			fmt.Println("warm")
			start = now()
		case warmUp + count:
			start.stop()
			close(enough)
		}
	})
	check(err)
	check(nc.Flush())
	ready()
	<-enough
}

// A client at work.
func use(url string, subject string, work string, texts []string) {
	var numbers [3]int
	for index := range numbers {
		number, err := strconv.Atoi(texts[index])
		check(err)
		numbers[index] = number
	}
	count, warmUp, callers := numbers[0], numbers[1], numbers[2]
	nc, err := nats.Connect(url)
	check(err)
	defer nc.Close()
	if work == "receive" {
		receive(nc, subject, count, warmUp)
		return
	}
	run := func(count int) { publish(nc, subject, count) }
	if work == "request" {
		run = func(count int) { request(nc, subject, count, callers) }
	}
	ready()
	run(warmUp)
	start := now()
	run(count)
	start.stop()
}
