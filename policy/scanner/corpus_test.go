package scanner_test

import (
	"fmt"
	"testing"

	"sipward/policy/scanner"
)

func b(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}

// realAgents are User-Agents of phones, soft phones, gateways, PBXes, cameras and
// monitoring programs as they are seen in the field.
var realAgents = []string{
	"Yealink SIP-T46S 66.85.0.5", "Yealink SIP-T27G 69.86.0.15", "Yealink SIP-T53W 96.87.0.16 805ec0112233", "Yealink W60B 77.83.0.85", "Yealink VC800 63.345.0.40",
	"PolycomVVX-VVX_450-UA/6.4.3.5018", "PolycomSoundPointIP-SPIP_331-UA/4.0.10.0689", "PolycomSoundStationIP-SSIP_5000-UA/4.0.13.1445", "PolyEdge-EdgeE350-UA/8.0.2.3267",
	"Grandstream GXP2170 1.0.9.135", "Grandstream HT812 1.0.29.8", "Grandstream GRP2614 1.0.5.48", "Grandstream UCM6304V1.9A 1.0.23.8", "Grandstream Wave 1.2.13",
	"snomD785/10.1.169.16", "snom370/8.7.5.48", "snom105-3.56p", "snomM700/05.20.0001",
	"Cisco-SIPGateway/IOS-15.5.3.M1", "Cisco-SIPGateway/IOS-12.x", "Cisco-SIPGateway/IOS-17.6.5", "Cisco-CP8841/11.7.1", "Cisco/SPA303-7.5.6a", "Cisco/SPA525G2-7.6.1(ES_RC01)", "Cisco-CUCM12.5", "Cisco-ATA192/1.0", "Linksys/SPA942-6.1.5(a)", "Linksys/PAP2T-5.1.6(LS)", "Sipura/SPA2002-3.1.5",
	"Linphone/3.9.0 (belle-sip/1.4.2)", "Linphone/3.6.1 (eXosip2/4.1.0)", "LinphoneiOS/4.5.1 (iPhone de Kijou) LinphoneSDK/5.0.40-pre.2+ea19d3d", "LinphoneAndroid/5.2.0 (Pixel 7) LinphoneSDK/5.3.0", "Linphone Desktop/5.2.1 (Ubuntu 22.04.3 LTS, Qt 5.15.3) LinphoneCore/5.3.15",
	"MicroSIP/3.21.3", "MicroSIP/3.19.27", "Zoiper rev.1812", "Z 5.6.6 v2.10.20.5", "Z 3.15.40006 rv2.8.20", "Zoiper v2.10.20.4-mod",
	"Asterisk PBX 18.12.1", "Asterisk PBX certified-18.9-cert13", "Asterisk PBX", "FPBX-16.0.40(18.9)", "FreePBX 14", "Asterisk PBX 20.6.0~dfsg+~cs6.13.40431414-2build5",
	"FreeSWITCH-mod_sofia/1.10.12-release~64bit", "FreeSWITCH", "2600hz", "FusionPBX", "kamailio (5.8.6 (x86_64/linux))", "OpenSIPS (3.2.0 (x86_64/linux))", "YATE/5.5.0", "3CXPhone 6.0.26523.0", "3CXPhoneSystem 18.0.7.312 (312)", "3CX Mobile Client 18",
	"baresip v1.1.0 (x86_64/linux)", "baresip v3.16.0 (arm64/linux)", "PJSUA v2.13 Linux-5.15/x86_64/glibc-2.35", "PJSUA v1.14.0/win32", "Twinkle/1.10.2", "Twinkle/1.4.2", "Ekiga/4.0.1", "SIP.js/0.21.1", "JsSIP 3.10.0", "SIPML5-v1.0",
	"X-Lite release 1104o stamp 56125", "X-Lite release 5.7.1 stamp 100933", "Bria 3 release 3.5.5 stamp 71243", "Bria iOS release 3.9.5 stamp 38501.38502", "Bria 6 release 6.5.1 stamp 111261", "eyeBeam release 1011d stamp 40820", "eyeBeam release 3007n stamp 17816",
	"CSipSimple_mako-22/r2457", "CSipSimple r1099 / thunderg-10", "PortSIP UC - Call Manager 16.0.0.302", "PortSIP - Toro Nightly (SNAPSHOT-20230731, Android, 33)", "Ozeki VoIP SIP SDK 10.0.3",
	"AVM FRITZ!Box 7590 (UI) 154.07.57 TAL", "FRITZ!OS", "Speedport W 724V Typ A", "N510 IP PRO/42.258.00.000.000", "Gigaset C610A IP/42.250.00", "Panasonic_KX-TGP600/12.02", "Panasonic-MPR08-P3PF/V1.0",
	"Mitel-6920-SIP/6.4.0.140", "Mitel Border GW/4.9.0.95", "Aastra 6739i/3.3.1.4305", "Avaya one-X Deskphone 7.1.15.1.3 b4475ea2e9a0", "Avaya-SM/7.1.3.0", "Avaya H175 Collaboration Station H1xx_SIP-R1_0_2_3_3050.tar", "AVAYA/SPICE/v1.2",
	"Fanvil X303 2.12.18.9 0c383e63963b", "Fanvil i16SV 2.4.0", "Htek UC924E V3.0.4.5", "Zultys ZIP37G 47.85.0.140", "Obihai/OBi202-3.2.2.8680", "Mediatrix 4102S/Dgw 2.0", "Patton SN4120 4JO MxSF v3.2.8.44", "AudioCodes-Sip-Gateway-Mediant 800B/v.7.20A.256", "OpenScape Voice V9", "Alcatel-Lucent OXE", "innovaphone-IP222/13r2", "Algo-8180/3.4", "2N Helios IP Verso 2.36",
	"eXosip/4.1.0", "IP Camera", "OpenBTS 4.0TRUNK Build Date May 25 2013", "SIPp", "SIPp/Win32", "sipexer v1.0.3", "SIPPing", "Sippy", "Sipwise NGCP", "Acrobits Softphone/6.0", "Groundwire/6.8", "Telephone 1.6", "Blink 5.9.0 (Linux)", "Jitsi2.10.5550Windows 10", "MjSip stack 1.6", "SIPClient-macOS/0.1.0", "Phoner 3.21", "PhonerLite 2.98", "Dlink VoIP Device", "VOIP", "PBX", "SIP",
	"Smapp 2.0", "Kiwari/1.0 (Android)", "Gulpener SIP", "SunComm SC-1688", "Friendly Phone 1.4", "RTC/6.0", "UCCAPI/15.0.4420.1017 OC/15.0.4420.1017 (Microsoft Lync)", "Microsoft.PSTNHub.SIPProxy v.2024.5.2.1", "Twilio Gateway", "Telnyx SIP Proxy", "Sonus_SBC", "Oracle Session Router", "ENSR3.0.66.40-IS11-RMRG32-RG", "",
}

// client is a message in the form that a real client gives it.
type client struct {
	who string
	msg scanner.Message
}

// realMessages are the forms of tags, branches, Call-IDs and Contacts of real
// clients.
var realMessages = []client{
	{"Yealink", scanner.Message{Method: b("REGISTER"), RequestURI: b("sip:pbx.example.com:5060"), UserAgent: b("Yealink SIP-T27G 69.86.0.15"), FromDisplay: b(`"201"`), FromUser: b("201"), FromHost: b("pbx.example.com"), FromTag: b("1458837925"), ToDisplay: b(`"201"`), ToUser: b("201"), ToHost: b("pbx.example.com"), CallID: b("4_723949779@10.6.1.14"), Contact: b("<sip:201@10.6.1.14:5060>"), ViaHost: b("10.6.1.14"), ViaBranch: b("z9hG4bK2843904571"), QOP: b("auth"), CNonce: b("0a4f113b"), ChallengeKnown: true, ChallengeHadQOP: true}},
	{"Polycom", scanner.Message{Method: b("REGISTER"), RequestURI: b("sip:pbx.example.com"), UserAgent: b("PolycomVVX-VVX_450-UA/6.4.3.5018"), FromDisplay: b(`"VVX 450"`), FromUser: b("450"), FromHost: b("pbx.example.com"), FromTag: b("AF2E436D-4B04B5AB"), ToUser: b("450"), ToHost: b("pbx.example.com"), CallID: b("c7f6bc72e0778e72f7055172226c01d1"), Contact: b(`<sip:450@192.168.0.224:5060;transport=udp>;methods="INVITE,ACK,BYE,CANCEL,OPTIONS,INFO,MESSAGE,SUBSCRIBE,NOTIFY,PRACK,UPDATE,REFER"`), ViaHost: b("192.168.0.224"), ViaBranch: b("z9hG4bK149f2c5eCDEB0324"), QOP: b("auth"), CNonce: b("X+5uJHgPKBGjp82"), ChallengeKnown: true, ChallengeHadQOP: true}},
	{"Grandstream", scanner.Message{Method: b("REGISTER"), RequestURI: b("sip:pbx.example.com"), UserAgent: b("Grandstream GXP2170 1.0.9.135"), FromDisplay: b(`"Anna"`), FromUser: b("250"), FromHost: b("pbx.example.com"), FromTag: b("1764399065"), ToUser: b("250"), ToHost: b("pbx.example.com"), CallID: b("1320386862-5060-1@BJC.BGI.B.BC"), Contact: b(`<sip:250@192.168.1.12:5060>;reg-id=1;+sip.instance="<urn:uuid:00000000-0000-1000-8000-000B82123456>"`), ViaHost: b("192.168.1.12"), ViaBranch: b("z9hG4bK1469236437"), QOP: b("auth"), CNonce: b("06889959"), ChallengeKnown: true, ChallengeHadQOP: true}},
	{"snom", scanner.Message{Method: b("INVITE"), RequestURI: b("sip:3607@pbx.example.com;user=phone"), UserAgent: b("snomD785/10.1.169.16"), FromDisplay: b(`"Ext 905"`), FromUser: b("905"), FromHost: b("pbx.example.com"), FromTag: b("3xq79cc9he"), ToUser: b("3607"), ToHost: b("pbx.example.com"), CallID: b("3c268399b04e-b2e3tpb6b9eb"), Contact: b("<sip:905@10.0.2.250:5060;line=qbc05th0>;reg-id=1"), ViaHost: b("10.0.2.250"), ViaBranch: b("z9hG4bK-b12m9r9qvqh3"), Accept: b("application/sdp")}},
	{"Cisco SPA with a branch without letters", scanner.Message{Method: b("INVITE"), RequestURI: b("sip:89267683777@192.168.32.2"), UserAgent: b("Cisco/SPA303-7.5.6a"), FromDisplay: b(`"470"`), FromUser: b("470"), FromHost: b("192.168.32.2"), FromTag: b("84d082c75cd9738ao0"), ToUser: b("89267683777"), ToHost: b("192.168.32.2"), CallID: b("68255d4b-b574bad6@192.168.32.239"), Contact: b(`"470" <sip:470@192.168.32.239:5060;transport=tls>`), ViaHost: b("192.168.32.239"), ViaBranch: b("z9hG4bK-59871319")}},
	{"Linksys", scanner.Message{Method: b("SUBSCRIBE"), RequestURI: b("sip:test.phone.example.net"), UserAgent: b("Linksys/SPA962-6.1.5(a)"), FromUser: b("0972222713"), FromHost: b("phone.example.net"), FromTag: b("53cca4372c533924i0"), ToHost: b("phone.example.net"), CallID: b("15591da1-15214f60@192.168.1.106"), Contact: b("<sip:0972222713@192.168.1.106:5063>"), ViaHost: b("192.168.1.106"), ViaBranch: b("z9hG4bK-598f1319")}},
	{"Cisco IOS gateway", scanner.Message{Method: b("INVITE"), RequestURI: b("sip:5959@10.42.29.7:5060"), UserAgent: b("Cisco-SIPGateway/IOS-15.5.3.M1"), FromUser: b("214346"), FromHost: b("10.62.255.1"), FromTag: b("CC5F60-3EC"), ToUser: b("5959"), ToHost: b("10.42.29.7"), CallID: b("13CE6F26-F60911E7-995AB81E-4CDEC078@10.62.255.1"), Contact: b("<sip:214346@10.62.255.1:5060>"), ViaHost: b("10.62.255.1"), ViaBranch: b("z9hG4bK4812E5")}},
	{"Cisco IOS gateway on 1.1.1.1", scanner.Message{Method: b("OPTIONS"), RequestURI: b("sip:10.42.29.7:5060"), UserAgent: b("Cisco-SIPGateway/IOS-12.x"), FromHost: b("1.1.1.1"), FromTag: b("E256D4-2316"), ToHost: b("10.42.29.7"), CallID: b("89CBE590-259911DF-80589501-4E753388@1.1.1.1"), Contact: b("<sip:1.1.1.1:5060>"), ViaHost: b("1.1.1.1"), ViaBranch: b("z9hG4bK1C1571767"), Accept: b("application/sdp")}},
	{"Cisco phone", scanner.Message{Method: b("REGISTER"), RequestURI: b("sip:pbx.example.com"), UserAgent: b("Cisco-CP8841/11.7.1"), FromUser: b("8841"), FromHost: b("pbx.example.com"), FromTag: b("00ccfc9967da000234ab5c3e-5a6b1c2d"), ToUser: b("8841"), ToHost: b("pbx.example.com"), CallID: b("00ccfc99-67da0002-1d3a4b5c-2f3e4d5c@10.1.1.20"), Contact: b(`<sip:8841@10.1.1.20:5060;transport=tcp>;+sip.instance="<urn:uuid:00000000-0000-0000-0000-00ccfc9967da>"`), ViaHost: b("10.1.1.20"), ViaBranch: b("z9hG4bK25a3c1f0")}},
	{"Linphone with belle-sip", scanner.Message{Method: b("REGISTER"), RequestURI: b("sip:sip.example.org"), UserAgent: b("Linphone/3.9.0 (belle-sip/1.4.2)"), FromUser: b("101"), FromHost: b("sip.example.org"), FromTag: b("dRqNxhS"), ToUser: b("101"), ToHost: b("sip.example.org"), CallID: b("nPk8A34HWK"), Contact: b(`<sip:101@192.168.10.105:50405;transport=tcp>;+sip.instance="<urn:uuid:9548ce0d-4303-475b-bbd4-ca6559d3f960>"`), ViaHost: b("192.168.10.105"), ViaBranch: b("z9hG4bK.e2Xn3vZ9j"), Accept: b("application/sdp")}},
	{"Linphone with eXosip", scanner.Message{Method: b("REGISTER"), RequestURI: b("sip:192.168.10.62"), UserAgent: b("Linphone/3.6.1 (eXosip2/4.1.0)"), FromUser: b("88001"), FromHost: b("192.168.10.62"), FromTag: b("1225432999"), ToUser: b("88001"), ToHost: b("192.168.10.62"), CallID: b("1222971951"), Contact: b("<sip:88001@192.168.10.1;line=f2fd53ebfa7728f>"), ViaHost: b("192.168.10.1"), ViaBranch: b("z9hG4bK1491280923")}},
	{"a camera (GB/T 28181)", scanner.Message{Method: b("MESSAGE"), RequestURI: b("sip:34020000002000000001@3402000000"), UserAgent: b("IP Camera"), FromUser: b("34020000002000000719"), FromHost: b("3402000000"), FromTag: b("1555083253"), ToUser: b("34020000002000000001"), ToHost: b("3402000000"), CallID: b("1910992793"), ViaHost: b("10.10.10.8"), ViaBranch: b("z9hG4bK430967578")}},
	{"MicroSIP", scanner.Message{Method: b("REGISTER"), RequestURI: b("sip:192.168.31.109"), UserAgent: b("MicroSIP/3.21.4"), FromDisplay: b(`"1009"`), FromUser: b("1009"), FromHost: b("192.168.31.109"), FromTag: b("b1a5cb34bf4443ee9d2aba31f7414e78"), ToUser: b("1009"), ToHost: b("192.168.31.109"), CallID: b("da72dbf2beb54974a12db2a38ad2aa3e"), Contact: b(`"1009" <sip:1009@192.168.31.109:64565;ob>`), ViaHost: b("192.168.31.109"), ViaBranch: b("z9hG4bKPjf3b1d22a5602462d8ca11d6db5fad320"), QOP: b("auth"), CNonce: b("84d082c7"), ChallengeKnown: true, ChallengeHadQOP: true}},
	{"PJSUA", scanner.Message{Method: b("OPTIONS"), RequestURI: b("sip:pbx.example.com"), UserAgent: b("PJSUA v2.13 Linux-5.15/x86_64/glibc-2.35"), FromUser: b("6001"), FromHost: b("pbx.example.com"), FromTag: b("t1cCAf9FzzGAJlf.VvTuq8yXrC8zFw86"), ToHost: b("pbx.example.com"), CallID: b("8e6vOJAFF7Fpy9WLW-L.eTW1bpbmIyYq"), Contact: b("<sip:6001@192.0.2.30:5060;ob>"), ViaHost: b("192.0.2.30"), ViaBranch: b("z9hG4bKPjI0Zt4bH4s1nUqYf0rYKqOB57sNNKAM"), Accept: b("application/sdp, application/pidf+xml, application/xpidf+xml, application/simple-message-summary, message/sipfrag;version=2.0, text/plain")}},
	{"Zoiper", scanner.Message{Method: b("REGISTER"), RequestURI: b("sip:192.168.8.102;transport=UDP"), UserAgent: b("Z 5.4.12 v2.10.13.2-mod"), FromUser: b("ext101"), FromHost: b("192.168.8.102"), FromTag: b("68335916"), ToUser: b("ext101"), ToHost: b("192.168.8.102"), CallID: b("-_5sdBMyyCXiYQc31wxRn.."), Contact: b("<sip:ext101@192.168.8.100:51988;rinstance=1cf3b433f0cb9154;transport=UDP>"), ViaHost: b("192.168.8.100"), ViaBranch: b("z9hG4bK-524287-1---8195c1b7ed89720f"), CNonce: b("de5d15d7469261c9cb71f6c1"), QOP: b("auth"), ChallengeKnown: true, ChallengeHadQOP: true}},
	{"eyeBeam", scanner.Message{Method: b("REGISTER"), RequestURI: b("sip:10.10.255.161:5060"), UserAgent: b("eyeBeam release 1011d stamp 40820"), FromDisplay: b(`"111"`), FromUser: b("111"), FromHost: b("10.10.255.161"), FromTag: b("3418703c"), ToUser: b("111"), ToHost: b("10.10.255.161"), CallID: b("ZmRiYmQyNzA1OGI4YTc0Y2Q2NmYwMTUyOGMwYmJjOTc."), Contact: b("<sip:111@10.10.255.7:56862;rinstance=6d2bbd8014ca7a76>"), ViaHost: b("10.10.255.7"), ViaBranch: b("z9hG4bK-d87543-c66bc353296ef71c-1--d87543-")}},
	{"Asterisk with PJSIP, as a branch office", scanner.Message{Method: b("INVITE"), RequestURI: b("sip:+4930123456@carrier.example.net:5060"), UserAgent: b("Asterisk PBX 18.12.1"), FromDisplay: b(`"Office"`), FromUser: b("4930654321"), FromHost: b("192.0.2.40"), FromTag: b("3f1c9b2e-8d55-4b64-9a4e-0f6e5d1f4a11"), ToUser: b("+4930123456"), ToHost: b("carrier.example.net"), CallID: b("6d7c9f9a-b0e9-4fb4-861f-7a1e21fc9d10"), Contact: b("<sip:asterisk@192.0.2.40:5060>"), ViaHost: b("192.0.2.40"), ViaBranch: b("z9hG4bKPj6f0c7c1d-0b57-4a34-8c2e-2a5b8d2d5e55")}},
	{"Asterisk with chan_sip", scanner.Message{Method: b("OPTIONS"), RequestURI: b("sip:905@192.0.2.71:5060"), UserAgent: b("Asterisk PBX"), FromDisplay: b(`"asterisk"`), FromUser: b("asterisk"), FromHost: b("192.0.2.40"), FromTag: b("as58f4201b"), ToUser: b("905"), ToHost: b("192.0.2.71"), CallID: b("326371826c80e17e6cf6c29861eb2933@192.0.2.40:5060"), Contact: b("<sip:asterisk@192.0.2.40:5060>"), ViaHost: b("192.0.2.40"), ViaBranch: b("z9hG4bK4f0d2c1a")}},
	{"FreeSWITCH", scanner.Message{Method: b("INVITE"), RequestURI: b("sip:1009@192.0.2.31:5060"), UserAgent: b("FreeSWITCH-mod_sofia/1.10.12-release~64bit"), FromDisplay: b(`"Extension 1002"`), FromUser: b("1002"), FromHost: b("192.0.2.31"), FromTag: b("8Xy7r28Ne5ZSQ"), ToUser: b("1009"), ToHost: b("192.0.2.31"), CallID: b("81a36a1e-f284-123d-5799-f111227aced7"), Contact: b("<sip:mod_sofia@192.0.2.31:5060>"), ViaHost: b("192.0.2.31"), ViaBranch: b("z9hG4bKNBtXvD3y6mZXp")}},
	{"Kamailio, keep-alive", scanner.Message{Method: b("OPTIONS"), RequestURI: b("sip:192.168.2.49"), UserAgent: b("kamailio (5.8.6 (x86_64/linux))"), FromUser: b("prober"), FromHost: b("localhost"), FromTag: b("6cb8ea30c7209ae31645dca09d4b97da-60fe"), ToHost: b("192.168.2.49"), CallID: b("6cbbb92959c7c3ae-19720@192.168.2.50"), ViaHost: b("192.168.2.50"), ViaBranch: b("z9hG4bK369e.a6f2f446.0")}},
	{"Yate", scanner.Message{Method: b("REGISTER"), RequestURI: b("sip:pbx.example.com"), UserAgent: b("YATE/5.5.0"), FromUser: b("200"), FromHost: b("pbx.example.com"), FromTag: b("1840661473"), ToUser: b("200"), ToHost: b("pbx.example.com"), CallID: b("1503903609@pbx.example.com"), Contact: b("<sip:200@10.210.210.210:5060>"), ViaHost: b("10.210.210.210"), ViaBranch: b("z9hG4bK1503903609")}},
	{"baresip", scanner.Message{Method: b("REGISTER"), RequestURI: b("sip:192.168.77.108"), UserAgent: b("baresip v1.1.0 (x86_64/linux)"), FromUser: b("3002"), FromHost: b("192.168.77.108"), FromTag: b("dec9efa8195d3424"), ToUser: b("3002"), ToHost: b("192.168.77.108"), CallID: b("5a0f44882f7fab20"), Contact: b("<sip:3002-0x563dc2f1bbe0@192.168.77.1:5071>;expires=300"), ViaHost: b("192.168.77.1"), ViaBranch: b("z9hG4bK9f528f3ed5284446")}},
	{"Twinkle", scanner.Message{Method: b("REGISTER"), RequestURI: b("sip:bertera.example"), UserAgent: b("Twinkle/1.4.2"), FromUser: b("user"), FromHost: b("bertera.example"), FromTag: b("jqhmr"), ToUser: b("user"), ToHost: b("bertera.example"), CallID: b("ctinogbaylwicqo@kzan"), Contact: b("<sip:user@192.168.100.40:5062>;expires=3600"), ViaHost: b("192.168.100.40"), ViaBranch: b("z9hG4bKlrqwbjxj")}},
	{"SIP.js", scanner.Message{Method: b("REGISTER"), RequestURI: b("sip:pbx.example.com"), UserAgent: b("SIP.js/0.21.1"), FromUser: b("1002"), FromHost: b("pbx.example.com"), FromTag: b("rto5ib4052"), ToUser: b("1002"), ToHost: b("pbx.example.com"), CallID: b("grj0liun879lfj35evfq"), Contact: b("<sip:8bum4n4l@7bhs9fl1c2ll.invalid;transport=ws>;expires=600"), ViaHost: b("7bhs9fl1c2ll.invalid"), ViaBranch: b("z9hG4bK491249")}},
	{"a Java client", scanner.Message{Method: b("REGISTER"), RequestURI: b("sip:192.168.50.50:5060"), FromUser: b("1000"), FromHost: b("192.168.50.50"), FromTag: b("319434100"), ToUser: b("1000"), ToHost: b("192.168.50.50"), CallID: b("92FA07B61E9DFFAEA89F08C3F382F7AF342CE46DC71F"), Contact: b("sip:1000@192.168.50.51:16810"), ViaHost: b("192.168.50.51"), ViaBranch: b("z9hG4bK--1374356523")}},
	{"SIPp", scanner.Message{Method: b("REGISTER"), RequestURI: b("sip:pbx.example.com"), FromDisplay: b("sipp"), FromUser: b("sipp"), FromHost: b("192.0.2.9"), FromTag: b("3017SIPpTag001"), ToUser: b("ping"), ToHost: b("192.0.2.1"), CallID: b("1-3017@192.0.2.9"), Contact: b("sip:sipp@192.0.2.9:5060"), ViaHost: b("192.0.2.9"), ViaBranch: b("z9hG4bK-3017-1-0")}},
	{"Fanvil", scanner.Message{Method: b("REGISTER"), RequestURI: b("sip:dev1.example.kr"), UserAgent: b("Fanvil X303 2.12.18.9 0c383e63963b"), FromDisplay: b(`"7001"`), FromUser: b("7001"), FromHost: b("dev1.example.kr"), FromTag: b("1539215870"), ToUser: b("7001"), ToHost: b("dev1.example.kr"), CallID: b("14881205532810-218741523322157@192.168.1.30"), Contact: b("<sip:7001@192.168.1.30:5060>"), ViaHost: b("192.168.1.30"), ViaBranch: b("z9hG4bK17412136301258525163"), QOP: b("auth"), CNonce: b("ebcb82d2"), ChallengeKnown: true, ChallengeHadQOP: true}},
	{"FRITZ!Box", scanner.Message{Method: b("REGISTER"), RequestURI: b("sip:carrier.example.net"), UserAgent: b("AVM FRITZ!Box 7590 (UI) 154.07.57 TAL"), FromUser: b("4930123456"), FromHost: b("carrier.example.net"), FromTag: b("0D8C5E4B1F2A3C4D"), ToUser: b("4930123456"), ToHost: b("carrier.example.net"), CallID: b("F3A5C7E19B2D4068@198.51.100.20"), Contact: b(`<sip:4930123456@198.51.100.20;uniq=0123456789ABCDEF0123456789ABC>;+sip.instance="<urn:uuid:12345678-1234-1234-1234-0123456789ab>"`), ViaHost: b("198.51.100.20"), ViaBranch: b("z9hG4bK7F1B2C3D4E5F6071")}},
	{"UniFi or other with RFC 2543 habits", scanner.Message{Method: b("REGISTER"), RequestURI: b("sip:pbx.example.com"), UserAgent: b("3Com-SIP-Phone/V7.1.53.53"), FromUser: b("3170"), FromHost: b("10.1.1.11"), ToUser: b("3170"), ToHost: b("10.1.1.11"), CallID: b("e2d02388-01d6-0352-13c6-00e0bb36ca69"), Contact: b("<sip:3170@172.20.3.20:5060>;dt=544"), ViaHost: b("172.20.3.20")}},
	{"Contact of a removal", scanner.Message{Method: b("REGISTER"), RequestURI: b("sip:pbx.example.com"), UserAgent: b("Twinkle/1.10.2"), FromUser: b("Name"), FromHost: b("pbx.example.com"), FromTag: b("ursab"), CallID: b("xpoxwvvkzlbbwvl@debian"), Contact: b("*"), ViaHost: b("192.0.2.8"), ViaBranch: b("z9hG4bKqwetrmyb")}},
	{"a phone that sends qop to a challenge without", scanner.Message{Method: b("REGISTER"), RequestURI: b("sip:pbx.example.com"), UserAgent: b("Dlink VoIP Device"), FromUser: b("12"), FromHost: b("pbx.example.com"), FromTag: b("a1b2c3d4"), CallID: b("a1b2c3d4e5f6@192.0.2.13"), Contact: b("<sip:12@192.0.2.13>"), ViaHost: b("192.0.2.13"), ViaBranch: b("z9hG4bKa1b2c3d4"), QOP: b("auth"), ChallengeKnown: true}},
}

// TestRealClients holds that no real client's message is a scanner's, whatever
// name it goes by.
func TestRealClients(t *testing.T) {
	set := scanner.Default()
	if len(realAgents) < 60 || len(realMessages) < 25 {
		t.Fatalf("the corpus has %d User-Agents and %d messages", len(realAgents), len(realMessages))
	}
	check := func(who string, m *scanner.Message) {
		if got := set.Match(m); got.Scanner() || got.Sure {
			t.Errorf("%s: %+v: %v", who, got, ids(set.Explain(m)))
		}
	}
	for _, agent := range realAgents {
		check(agent, &scanner.Message{UserAgent: b(agent)})
		check("Server "+agent, &scanner.Message{Server: b(agent)})
	}
	for _, c := range realMessages {
		check(c.who, &c.msg)
		for _, agent := range realAgents {
			m := c.msg
			m.UserAgent = b(agent)
			check(fmt.Sprintf("%s as %q", c.who, agent), &m)
		}
	}
}

func ids(signatures []scanner.Signature) []string {
	var ids []string
	for _, s := range signatures {
		ids = append(ids, fmt.Sprintf("%s %d", s.ID, s.Score))
	}
	return ids
}

// attacks are the messages of attack tools.
var attacks = []client{
	{"svmap", scanner.Message{Method: b("OPTIONS"), RequestURI: b("sip:100@192.0.2.1"), UserAgent: b("friendly-scanner"), FromDisplay: b(`"sipvicious"`), FromUser: b("100"), FromHost: b("1.1.1.1"), FromTag: b("613361636136646466666334013237343639353932"), ToDisplay: b(`"sipvicious"`), ToUser: b("100"), ToHost: b("1.1.1.1"), CallID: b("991852993801236740384404"), Contact: b("sip:100@203.0.113.9:5069"), ViaHost: b("203.0.113.9"), ViaBranch: b("z9hG4bK-829846850"), Accept: b("application/sdp")}},
	{"svwar", scanner.Message{Method: b("REGISTER"), RequestURI: b("sip:192.0.2.1"), UserAgent: b("friendly-scanner"), FromDisplay: b(`"1000"`), FromUser: b("1000"), FromHost: b("192.0.2.1"), FromTag: b("313030300131313035373237353634"), ToDisplay: b(`"1000"`), ToUser: b("1000"), ToHost: b("192.0.2.1"), CallID: b("2190877313"), Contact: b("sip:1000@192.0.2.1"), ViaHost: b("203.0.113.9"), ViaBranch: b("z9hG4bK-3105862743"), Accept: b("application/sdp")}},
	{"nmap", scanner.Message{Method: b("OPTIONS"), RequestURI: b("sip:nm"), FromUser: b("nm"), FromHost: b("nm"), FromTag: b("root"), ToUser: b("nm2"), ToHost: b("nm2"), CallID: b("50000"), Contact: b("<sip:nm@nm>"), ViaHost: b("nm"), ViaBranch: b("foo"), Accept: b("application/sdp")}},
	{"nmap, an altered branch", scanner.Message{Method: b("OPTIONS"), FromUser: b("nm"), ToUser: b("nm2")}},
	{"sip-enum-users", scanner.Message{Method: b("REGISTER"), UserAgent: b("Linphone/5"), FromDisplay: b(`"Nmap NSE"`), FromUser: b("admin")}},
	{"Metasploit", scanner.Message{Method: b("OPTIONS"), RequestURI: b("sip:nobody@192.0.2.1"), UserAgent: b("aR4k"), FromUser: b("aR4k"), FromHost: b("203.0.113.9"), FromTag: b("70c00e8c"), ToUser: b("nobody"), CallID: b("3735928559@203.0.113.9"), Contact: b("sip:aR4k@203.0.113.9:5060"), ViaBranch: b("z9hG4bK.1badcafe"), Accept: b("text/plain")}},
	{"RFC 3261 sample, Via", scanner.Message{Method: b("INVITE"), ViaHost: b("pc33.atlanta.com")}},
	{"RFC 3261 sample, Contact", scanner.Message{Method: b("INVITE"), Contact: b("<sip:alice@pc33.atlanta.com>")}},
	{"RFC 3261 sample, Call-ID", scanner.Message{Method: b("INVITE"), CallID: b("a84b4c76e66710@pc33.atlanta.com")}},
	{"RFC 3261 sample, Request-URI", scanner.Message{Method: b("INVITE"), RequestURI: b("sip:bob@biloxi.com")}},
	{"RFC 3261 sample, To", scanner.Message{Method: b("INVITE"), ToHost: b("biloxi.com")}},
}

// TestAttackTools holds that every known tool is one, by its name and by its marks.
func TestAttackTools(t *testing.T) {
	set := scanner.Default()
	for _, agent := range []string{
		"friendly-scanner", "sipvicious", "SIPVicious 0.3.3", "sipcli/v1.8", "sipcli/v2.2", "sundayddr", "iWar", "sipsak 0.9.8.1", "sipsak", "VaxSIPUserAgent/3.1", "VaxIPUserAgent",
		"pplsip", "SIPScan", "sip-scan", "SimpleSIP", "SimpleSIP V4.3", "friendly-request", "siparmyknife", "SIVuS", "sivus", "smap 0.6.0", "Gulp",
		"zxcvfdf11", "fdgddfg546df4g8d5f", "UsaAirport", "Nmap NSE", "svwar", "svcrack/0.3", "sippts", "sipptk", "Viproy Penetration Testing Kit - Test Agent",
	} {
		// The rest of the message is a good phone's.
		m := realMessages[0].msg
		m.UserAgent = b(agent)
		if got := set.Match(&m); !got.Scanner() || !got.Sure {
			t.Errorf("%s: %+v", agent, got)
		}
	}
	for _, a := range attacks {
		if got := set.Match(&a.msg); !got.Scanner() || !got.Sure {
			t.Errorf("%s: %+v: %v", a.who, got, ids(set.Explain(&a.msg)))
		}
	}
}

// TestSIPViciousInDisguise takes the names and marks of SIPVicious away one by one.
func TestSIPViciousInDisguise(t *testing.T) {
	set := scanner.Default()
	names := []string{"Cisco-SIPGateway/IOS-12.x", "Asterisk PBX", "eyeBeam release 3015c stamp 27107", "Yealink SIP-T46S 66.85.0.5", ""}
	for _, a := range attacks[:2] {
		for _, name := range names {
			m := a.msg
			m.UserAgent = b(name)
			m.FromDisplay, m.ToDisplay = b(`"1000"`), b(`"1000"`)
			m.FromHost, m.ToHost = b("192.0.2.1"), b("192.0.2.1")
			if got := set.Match(&m); got.Signature != "sipvicious-tag" || !got.Scanner() {
				t.Errorf("%s as %q: %+v", a.who, name, got)
			}
			m.FromTag = b("b1a5cb34bf4443ee9d2aba31f7414e78")
			if got := set.Match(&m); !got.Scanner() {
				t.Errorf("%s as %q with another tag: %+v: %v", a.who, name, got, ids(set.Explain(&m)))
			}
		}
	}
	// svcrack with brackets around its Contact and another method's habits, found by
	// the answer that it gives to a challenge.
	m := attacks[1].msg
	m.Method, m.UserAgent, m.FromTag = b("INVITE"), nil, b("b1a5cb34bf4443ee")
	m.Contact, m.QOP, m.ChallengeKnown = b("<sip:1000@192.0.2.1>"), b("auth"), true
	if got := set.Match(&m); !got.Scanner() || got.Sure {
		t.Errorf("svcrack by qop: %+v: %v", got, ids(set.Explain(&m)))
	}
}
