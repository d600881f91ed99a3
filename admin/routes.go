package admin

import (
	"bytes"
	"context"
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

// route is what one method does at a path.
type route struct {
	need Role
	// serve answers, or says why not.
	serve func(w http.ResponseWriter, r *http.Request) error
}

// call answers a request with a body that is sent as JSON.
type call func(r *http.Request) (any, error)

// calls returns the whole API: paths, and what each method does there.
func (s *Server) calls() map[string]map[string]route {
	return map[string]map[string]route{
		"/v1/status":            {http.MethodGet: s.get(s.status)},
		"/v1/reload":            {http.MethodPost: s.change("reload", s.reload)},
		"/v1/lists/allow":       {http.MethodGet: s.get(s.entries(Allow))},
		"/v1/lists/deny":        {http.MethodGet: s.get(s.entries(Deny))},
		"/v1/lists/bans":        {http.MethodGet: s.get(s.bans)},
		"/v1/lists/quarantines": {http.MethodGet: s.get(s.quarantines)},
		"/v1/ban":               {http.MethodPost: s.change("ban", s.ban), http.MethodDelete: s.change("unban", s.unban)},
		"/v1/allow":             {http.MethodPost: s.change("allow", s.add(Allow)), http.MethodDelete: s.change("allow --remove", s.remove(Allow))},
		"/v1/deny":              {http.MethodPost: s.change("deny", s.add(Deny)), http.MethodDelete: s.change("deny --remove", s.remove(Deny))},
		"/v1/explain":           {http.MethodGet: s.get(s.explain)},

		"/v1/notify":      {http.MethodGet: s.get(s.notifications)},
		"/v1/notify/test": {http.MethodPost: s.change("notify test", s.testNotification)},

		"/v1/report": {http.MethodGet: {Read, s.report}, http.MethodPost: s.change("report --mail", s.mailReport)},

		"/v1/kernel":       {http.MethodGet: s.get(s.kernel)},
		"/v1/kernel/sync":  {http.MethodPost: s.change("kernel sync", s.syncKernel)},
		"/v1/kernel/clear": {http.MethodPost: s.change("kernel clear", s.clearKernel)},

		"/v1/openapi.yaml": {http.MethodGet: {Read, describe}},

		"/metrics":    {http.MethodGet: s.metrics()},
		"/v1/events":  {http.MethodGet: {Read, s.events}},
		"/v1/session": {http.MethodGet: s.get(sessionStatus), http.MethodPost: {Read, s.login}, http.MethodDelete: {Read, s.logout}},
	}
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for path, methods := range s.calls() {
		mux.HandleFunc(path, dispatch(methods))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, &Refusal{http.StatusNotFound, fmt.Sprintf("there is nothing at %.100q; the API is described in docs/api.md", r.URL.Path)})
	})
	return mux
}

// site is the API with the mounts around it.
func (s *Server) site(api http.Handler) http.Handler {
	mounts := http.NewServeMux()
	for _, m := range s.cfg.Mounts {
		mounts.HandleFunc(m.Pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := allow(r, m.Need); err != nil {
				refuse(w, err)
				return
			}
			m.Handler.ServeHTTP(w, r)
		})
	}
	paths := s.calls()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if paths[r.URL.Path] == nil && !strings.HasPrefix(r.URL.Path, "/v1/") {
			if _, pattern := mounts.Handler(r); pattern != "" {
				mounts.ServeHTTP(w, r)
				return
			}
		}
		api.ServeHTTP(w, r)
	})
}

func dispatch(methods map[string]route) http.HandlerFunc {
	allowed := strings.Join(slices.Sorted(maps.Keys(methods)), ", ")
	return func(w http.ResponseWriter, r *http.Request) {
		m, ok := methods[r.Method]
		if !ok {
			w.Header().Set("Allow", allowed)
			refuse(w, &Refusal{http.StatusMethodNotAllowed, fmt.Sprintf("%.20q is not for %s; use %s", r.Method, r.URL.Path, allowed)})
			return
		}
		err := allow(r, m.need)
		if err == nil {
			err = m.serve(w, r)
		}
		if err != nil {
			refuse(w, err)
		}
	}
}

// get makes a route of a call that changes nothing.
func (s *Server) get(f call) route {
	return route{Read, func(w http.ResponseWriter, r *http.Request) error {
		body, err := f(r)
		if err == nil {
			reply(w, http.StatusOK, body)
		}
		return err
	}}
}

// changer is a call that changes something. The string says what it is about.
type changer func(r *http.Request, by Caller) (about string, body any, err error)

// change makes a route of what changes something: it is known and audited who asked for it
// and what came of it.
func (s *Server) change(what string, f changer) route {
	return route{Write, func(w http.ResponseWriter, r *http.Request) error {
		by, _ := CallerOf(r)
		about, body, err := f(r, by)
		s.audit(Act{Time: time.Now(), By: by, Command: what, About: about, Err: err})
		if err == nil {
			reply(w, http.StatusOK, body)
		}
		return err
	}}
}

func (s *Server) status(*http.Request) (any, error) { return s.cfg.Backend.Status(), nil }

func (s *Server) reload(*http.Request, Caller) (string, any, error) {
	done, err := s.cfg.Backend.Reload()
	return "", done, err
}

func (s *Server) entries(list List) call {
	return func(*http.Request) (any, error) {
		all, err := s.cfg.Backend.Entries(list)
		return entryList{all}, err
	}
}

func (s *Server) ban(r *http.Request, by Caller) (string, any, error) {
	var q BanRequest
	if err := read(r, &q); err != nil {
		return "", nil, err
	}
	done, err := s.cfg.Backend.Ban(q, by)
	return fmt.Sprintf("%.100s for=%.20q reason=%.200q force=%t", q.Address, q.For, q.Reason, q.Force), done, err
}

func (s *Server) unban(r *http.Request, _ Caller) (string, any, error) {
	address, err := address(r)
	if err != nil {
		return "", nil, err
	}
	done, err := s.cfg.Backend.Unban(address)
	return address, done, err
}

func (s *Server) add(list List) changer {
	return func(r *http.Request, by Caller) (string, any, error) {
		var q EntryRequest
		if err := read(r, &q); err != nil {
			return "", nil, err
		}
		done, err := s.cfg.Backend.AddEntry(list, q, by)
		return fmt.Sprintf("%.100s comment=%.200q force=%t", q.Address, q.Comment, q.Force), done, err
	}
}

func (s *Server) remove(list List) changer {
	return func(r *http.Request, _ Caller) (string, any, error) {
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

// reportKinds says what reports are sent as, by format.
var reportKinds = map[string]string{
	report.FormatJSON: "application/json", report.FormatCSV: "text/csv; charset=utf-8",
	report.FormatHTML: "text/html; charset=utf-8", report.FormatTable: "text/plain; charset=utf-8",
}

// report answers with a report, as JSON, or as a file in the format that is asked for.
func (s *Server) report(w http.ResponseWriter, r *http.Request) error {
	values := r.URL.Query()
	format := values.Get("format")
	values.Del("format")
	kind, ok := reportKinds[format]
	if !ok && format != "" {
		return &Refusal{http.StatusBadRequest, fmt.Sprintf("format: %.40q is not known; there are %s", format, strings.Join(report.Formats(), ", "))}
	}
	q, err := report.ParseQuery(values, time.Now())
	if err != nil {
		return &Refusal{http.StatusBadRequest, err.Error()}
	}
	done, err := s.cfg.Backend.Report(r.Context(), &q)
	if err != nil {
		return err
	}
	if format == "" {
		reply(w, http.StatusOK, done)
		return nil
	}
	var text bytes.Buffer
	if err := done.Render(&text, format); err != nil {
		return err
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Disposition", "attachment; filename=sipward-report."+strings.Replace(format, report.FormatTable, "txt", 1))
	w.Write(text.Bytes()) // a client that went away needs no answer
	return nil
}

// mailReport mails a report; its parameters are those of GET, and the channel.
func (s *Server) mailReport(r *http.Request, _ Caller) (string, any, error) {
	values := r.URL.Query()
	channel := values.Get("channel")
	values.Del("channel")
	q, err := report.ParseQuery(values, time.Now())
	if err != nil {
		return "", nil, &Refusal{http.StatusBadRequest, err.Error()}
	}
	if channel == "" {
		return "", nil, &Refusal{http.StatusBadRequest, "the request needs the name of a channel to mail by: /v1/report?last=24h&channel=ops-mail"}
	}
	ctx, cancel := context.WithTimeout(r.Context(), sendTimeout)
	defer cancel()
	done, err := s.cfg.Backend.MailReport(ctx, &q, channel)
	return fmt.Sprintf("%.100q %.400s", channel, q.Values().Encode()), done, err
}

func (s *Server) kernel(r *http.Request) (any, error) {
	return s.cfg.Backend.Kernel(r.Context()), nil
}

func (s *Server) syncKernel(r *http.Request, _ Caller) (string, any, error) {
	done, err := s.cfg.Backend.SyncKernel(r.Context())
	return "", done, err
}

func (s *Server) clearKernel(r *http.Request, _ Caller) (string, any, error) {
	done, err := s.cfg.Backend.ClearKernel(r.Context())
	return "", done, err
}

func (s *Server) notifications(*http.Request) (any, error) {
	return s.cfg.Backend.Notifications(), nil
}

func (s *Server) testNotification(r *http.Request, _ Caller) (string, any, error) {
	var q TestRequest
	if err := read(r, &q); err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), sendTimeout)
	defer cancel()
	done, err := s.cfg.Backend.TestNotification(ctx, q.Channel)
	return fmt.Sprintf("%.100q", q.Channel), done, err
}

// sendTimeout is how long a test or a report may take to be sent; the answer has to be out
// before writeTimeout.
const sendTimeout = writeTimeout - 5*time.Second

// entryList keeps room beside the list for what may be added later.
type entryList struct {
	Entries []Entry `json:"entries"`
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
	switch status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="sipward"`)
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "60")
	}
	reply(w, status, failure{err.Error()})
}

func reply(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(body) // a client that went away needs no answer
}
