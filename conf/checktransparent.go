package conf

import "slices"

// checkTransparent finds what fits only one of the modes, or one of the placements.
func (d *decoder) checkTransparent(c *Config) {
	if !d.clean("mode", "placement") {
		return
	}
	def := Default()
	t := &c.Transparent
	if c.Mode == ModeProxy {
		const why = `this belongs to transparent mode; write "mode: transparent", or remove it`
		d.foreign("placement", c.Placement != def.Placement, why)
		d.foreign("transparent.inside", len(t.Inside) > 0, why)
		d.foreign("transparent.outside", len(t.Outside) > 0, why)
		return
	}
	const why = "this belongs to proxy mode: in transparent mode phones send to the PBX's own address; remove it"
	d.foreign("listen.outside", !slices.Equal(c.Listen.Outside, def.Listen.Outside), why)
	d.foreign("listen.inside", len(c.Listen.Inside) > 0, why)
	d.foreign("listen.advertise", len(c.Listen.Advertise) > 0, why)
	d.foreign("path", c.Path, why)
	const sees = "sipward cannot look into TLS between others, so this belongs to proxy mode; remove it"
	d.foreign("tls.certificates", len(c.TLS.Certificates) > 0, sees)
	d.foreign("tls.acme.domains", len(c.TLS.ACME.Domains) > 0, sees)
	d.foreign("websocket.origins", len(c.WebSocket.Origins) > 0, sees)
	for i, p := range c.PBX {
		if d.clean("pbx") && !slices.Equal(p.Transports, []Transport{TransportUDP, TransportTCP}) {
			d.fail(d.values["pbx"].itemAt(i), itemKey("pbx", i)+".transports", "in transparent mode messages go on by what they come by; remove this")
		}
	}
	switch {
	case !d.clean("transparent.inside"):
	case c.Placement == PlacementRouter && len(t.Inside) == 0:
		d.fail(d.at("transparent.inside", "placement", "mode"), "transparent.inside", `the list is empty; write the interfaces that the PBXes are behind, or "placement: host" if sipward is on the PBX itself`)
	case c.Placement == PlacementHost && len(t.Inside) > 0:
		d.fail(d.at("transparent.inside"), "transparent.inside", "on the PBX's own host no interface leads to it; remove the key")
	}
	for i, name := range t.Outside {
		if d.clean("transparent.inside", "transparent.outside") && slices.Contains(t.Inside, name) {
			d.fail(d.values["transparent.outside"].itemAt(i), itemKey("transparent.outside", i), "%s is in transparent.inside, too; remove one of them", name)
		}
	}
	if d.clean("transparent.mark", "transparent.own_mark") && t.Mark == t.OwnMark {
		d.fail(d.at("transparent.own_mark", "transparent.mark"), "transparent.own_mark", "%#x is transparent.mark, too; choose another", t.OwnMark)
	}
	for i, p := range c.PBX {
		if port := int(p.Address.Port()); d.clean("pbx", "transparent.port") && (port == t.Port || port == t.Port+1) {
			d.fail(d.values["pbx"].itemAt(i), itemKey("pbx", i)+".address", "port %d is one of sipward's own (transparent.port and the next one); choose another transparent.port", port)
		}
	}
	if d.clean("transparent.table") && t.Table >= 253 && t.Table <= 255 {
		d.fail(d.at("transparent.table"), "transparent.table", "%d is a table of the system; choose another number", t.Table)
	}
}

// foreign reports a key that is not as it is by default, and has no meaning.
func (d *decoder) foreign(key string, changed bool, why string) {
	if changed && d.clean(key) {
		d.fail(d.at(key), key, "%s", why)
	}
}
