// lane-probe: the image for cluster tests. "lane-probe pause" waits for a signal; without arguments it serves HTTP on $PORT.
package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, syscall.SIGTERM, syscall.SIGINT)
	if len(os.Args) > 1 && os.Args[1] == "pause" {
		for s := range sig {
			if s != syscall.SIGCHLD {
				return
			}
		}
	}
	start := time.Now()
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	host, _ := os.Hostname()
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if ms, err := strconv.Atoi(r.URL.Query().Get("ms")); err == nil {
			time.Sleep(time.Duration(ms) * time.Millisecond)
		}
		fmt.Fprintf(w, "pod=%s up=%s host=%s path=%s\n", host, time.Since(start).Round(time.Millisecond), r.Host, r.URL.Path)
	})
	go func() { <-sig; os.Exit(0) }()
	fmt.Println("listening on", port)
	panic(http.ListenAndServe(":"+port, nil))
}
