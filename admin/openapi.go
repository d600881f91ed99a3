package admin

import (
	_ "embed" // of the description
	"net/http"
)

// openAPI describes the API to programs; a test holds it to what is served.
//
//go:embed openapi.yaml
var openAPI []byte

func describe(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/yaml")
	w.Write(openAPI) // a client that went away needs no answer
	return nil
}
