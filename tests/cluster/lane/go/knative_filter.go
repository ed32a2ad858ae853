// Knative keeps one registry of informers per process. Linked together, every program would start those of all: each
// gets what its own package closure registers (deps-<program>.txt, written at build time).
package main

import (
	"context"
	"embed"
	"reflect"
	"runtime"
	"strings"

	"k8s.io/client-go/rest"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/injection"
)

//go:embed deps-*.txt
var deps embed.FS

type filtered struct {
	injection.Interface
	ok map[string]bool
}

func only(prog string) {
	b, err := deps.ReadFile("deps-" + prog + ".txt")
	if err != nil {
		return
	}
	f := &filtered{Interface: injection.Default, ok: map[string]bool{}}
	for _, l := range strings.Fields(string(b)) {
		f.ok[l] = true
	}
	injection.Default = f
}

func keep[T any](f *filtered, in []T) (out []T) {
	for _, x := range in {
		n := runtime.FuncForPC(reflect.ValueOf(x).Pointer()).Name() // path/of/pkg.func
		i := strings.LastIndex(n, "/") + 1
		if j := strings.Index(n[i:], "."); j > 0 && f.ok[n[:i+j]] {
			out = append(out, x)
		}
	}
	return out
}

func (f *filtered) GetClients() []injection.ClientInjector { return keep(f, f.Interface.GetClients()) }
func (f *filtered) GetInformerFactories() []injection.InformerFactoryInjector {
	return keep(f, f.Interface.GetInformerFactories())
}
func (f *filtered) GetDucks() []injection.DuckFactoryInjector { return keep(f, f.Interface.GetDucks()) }
func (f *filtered) GetInformers() []injection.InformerInjector {
	return keep(f, f.Interface.GetInformers())
}
func (f *filtered) GetFilteredInformers() []injection.FilteredInformersInjector {
	return keep(f, f.Interface.GetFilteredInformers())
}
func (f *filtered) SetupInformers(ctx context.Context, cfg *rest.Config) (context.Context, []controller.Informer) {
	for _, c := range f.GetClients() {
		ctx = c(ctx, cfg)
	}
	for _, c := range f.GetInformerFactories() {
		ctx = c(ctx)
	}
	for _, c := range f.GetDucks() {
		ctx = c(ctx)
	}
	var out []controller.Informer
	for _, c := range f.GetInformers() {
		var i controller.Informer
		ctx, i = c(ctx)
		out = append(out, i)
	}
	for _, c := range f.GetFilteredInformers() {
		var i []controller.Informer
		ctx, i = c(ctx)
		out = append(out, i...)
	}
	return ctx, out
}
