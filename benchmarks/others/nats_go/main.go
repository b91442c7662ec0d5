// Programs that use nats.go.
package main

import (
	"log"
	"os"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	switch os.Args[1] {
	case "serve":
		serve(os.Args[2], os.Args[3])
	case "use":
		use(os.Args[2], os.Args[3], os.Args[4], os.Args[5:])
	}
}
