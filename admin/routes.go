package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"sipward/report"
)

// call answers a request with a body that is sent as JSON.
type call func(r *http.Request) (any, error)

// calls returns the whole API: paths, and what each method does there.
func (s *Server) calls() map[string]map[string]call {
	return map[string]map[string]call{
		"/v1/status":      {http.MethodGet: s.status},
		"/v1/reload":      {http.MethodPost: s.change("reload", s.reload)},
		"/v1/lists/allow": {http.MethodGet: s.entries(Allow)},
		"/v1/lists/deny":  {http.MethodGet: s.entries(Deny)},
		"/v1/lists/bans":  {http.MethodGet: s.bans},
		"/v1/ban":         {http.MethodPost: s.change("ban", s.ban), http.MethodDelete: s.change("unban", s.unban)},
		"/v1/allow":       {http.MethodPost: s.change("allow", s.add(Allow)), http.MethodDelete: s.change("allow --remove", s.remove(Allow))},
		"/v1/deny":        {http.MethodPost: s.change("deny", s.add(Deny)), http.MethodDelete: s.change("deny --remove", s.remove(Deny))},
		"/v1/explain":     {http.MethodGet: s.explain},

		"/v1/report": {http.MethodGet: s.report},

		"/v1/kernel":       {http.MethodGet: s.kernel},
		"/v1/kernel/sync":  {http.MethodPost: s.change("kernel sync", s.syncKernel)},
		"/v1/kernel/clear": {http.MethodPost: s.change("kernel clear", s.clearKernel)},
	}
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for path, methods := range s.calls() {
		mux.HandleFunc(path, dispatch(methods))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, &Refusal{http.StatusNotFound, fmt.Sprintf("there is nothing at %.100q; the API is described in docs/operations.md", r.URL.Path)})
	})
	return mux
}

func dispatch(methods map[string]call) http.HandlerFunc {
	allowed := strings.Join(slices.Sorted(maps.Keys(methods)), ", ")
	return func(w http.ResponseWriter, r *http.Request) {
		f := methods[r.Method]
		if f == nil {
			w.Header().Set("Allow", allowed)
			refuse(w, &Refusal{http.StatusMethodNotAllowed, fmt.Sprintf("%.20q is not for %s; use %s", r.Method, r.URL.Path, allowed)})
			return
		}
		body, err := f(r)
		if err != nil {
			refuse(w, err)
			return
		}
		reply(w, http.StatusOK, body)
	}
}

// changer is a call that changes something. The string says what it is about.
type changer func(r *http.Request, by Peer) (about string, body any, err error)

// change makes a call of what changes something: it is known and logged who asked
// for it and what came of it.
func (s *Server) change(what string, f changer) call {
	return func(r *http.Request) (any, error) {
		by, ok := peer(r)
		if !ok {
			return nil, &Refusal{http.StatusForbidden, "the kernel does not say who is asking, so nothing is changed"}
		}
		about, body, err := f(r, by)
		log := s.cfg.Log.With("command", what, "about", about, "by", by.String())
		if err != nil {
			log.Warn("command failed", "err", err)
		} else {
			log.Info("command done")
		}
		if s.cfg.Audit != nil {
			s.cfg.Audit(Audit{what, about, by, err})
		}
		return body, err
	}
}

func (s *Server) status(*http.Request) (any, error) { return s.cfg.Backend.Status(), nil }

func (s *Server) reload(*http.Request, Peer) (string, any, error) {
	done, err := s.cfg.Backend.Reload()
	return "", done, err
}

func (s *Server) entries(list List) call {
	return func(*http.Request) (any, error) {
		all, err := s.cfg.Backend.Entries(list)
		return entryList{all}, err
	}
}

func (s *Server) bans(*http.Request) (any, error) {
	all, err := s.cfg.Backend.Bans()
	return banList{all}, err
}

func (s *Server) ban(r *http.Request, by Peer) (string, any, error) {
	var q BanRequest
	if err := read(r, &q); err != nil {
		return "", nil, err
	}
	done, err := s.cfg.Backend.Ban(q, by)
	return fmt.Sprintf("%.100s for=%.20q reason=%.200q force=%t", q.Address, q.For, q.Reason, q.Force), done, err
}

func (s *Server) unban(r *http.Request, _ Peer) (string, any, error) {
	address, err := address(r)
	if err != nil {
		return "", nil, err
	}
	done, err := s.cfg.Backend.Unban(address)
	return address, done, err
}

func (s *Server) add(list List) changer {
	return func(r *http.Request, by Peer) (string, any, error) {
		var q EntryRequest
		if err := read(r, &q); err != nil {
			return "", nil, err
		}
		done, err := s.cfg.Backend.AddEntry(list, q, by)
		return fmt.Sprintf("%.100s comment=%.200q force=%t", q.Address, q.Comment, q.Force), done, err
	}
}

func (s *Server) remove(list List) changer {
	return func(r *http.Request, _ Peer) (string, any, error) {
		address, err := address(r)
		if err != nil {
			return "", nil, err
		}
		done, err := s.cfg.Backend.RemoveEntry(list, address)
		return address, done, err
	}
}

func (s *Server) explain(r *http.Request) (any, error) {
	address, err := address(r)
	if err != nil {
		return nil, err
	}
	return s.cfg.Backend.Explain(address)
}

func (s *Server) report(r *http.Request) (any, error) {
	q, err := report.ParseQuery(r.URL.Query(), time.Now())
	if err != nil {
		return nil, &Refusal{http.StatusBadRequest, err.Error()}
	}
	return s.cfg.Backend.Report(r.Context(), &q)
}

func (s *Server) kernel(r *http.Request) (any, error) {
	return s.cfg.Backend.Kernel(r.Context()), nil
}

func (s *Server) syncKernel(r *http.Request, _ Peer) (string, any, error) {
	done, err := s.cfg.Backend.SyncKernel(r.Context())
	return "", done, err
}

func (s *Server) clearKernel(r *http.Request, _ Peer) (string, any, error) {
	done, err := s.cfg.Backend.ClearKernel(r.Context())
	return "", done, err
}

// entryList and banList keep room beside the lists for what may be added later.
type entryList struct {
	Entries []Entry `json:"entries"`
}

type banList struct {
	Bans []Ban `json:"bans"`
}

// read takes the one JSON object of a request's body.
func read(r *http.Request, into any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		err = errors.New("something follows the object")
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return &Refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes; send one request for each address", tooLarge.Limit)}
	case errors.Is(err, io.EOF):
		return &Refusal{http.StatusBadRequest, `the body is empty; send a JSON object such as {"address": "192.0.2.1"}`}
	}
	return &Refusal{http.StatusBadRequest, fmt.Sprintf(`the body is not what belongs here: %v; send a JSON object such as {"address": "192.0.2.1"}`, err)}
}

// maxAddress is more than any address or prefix is long.
const maxAddress = 100

// address returns the one parameter of a request.
func address(r *http.Request) (string, error) {
	q := r.URL.Query()
	if len(q) != 1 || len(q["address"]) != 1 || q.Get("address") == "" {
		return "", &Refusal{http.StatusBadRequest, "the request needs one parameter, the address: " + r.URL.Path + "?address=192.0.2.1"}
	}
	if len(q.Get("address")) > maxAddress {
		return "", &Refusal{http.StatusBadRequest, fmt.Sprintf("an address has at most %d characters; write one such as 192.0.2.1", maxAddress)}
	}
	return q.Get("address"), nil
}

// failure is the body of every answer that is not a success.
type failure struct {
	Error string `json:"error"`
}

func refuse(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	var declined *Refusal
	if errors.As(err, &declined) {
		status = declined.Status
		if status == 0 {
			status = http.StatusUnprocessableEntity
		}
	}
	reply(w, status, failure{err.Error()})
}

func reply(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(body) // a client that went away needs no answer
}
