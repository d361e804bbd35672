"""The style sheet of all pages, with rules for narrow screens, dark mode and print."""

STYLE = """
:root{--text:#222;--muted:#555;--line:#ddd;--strong:#bbb;--paper:#fff;--link:#1f5c99;--notice:#fdf3dc}
body{font:15px/1.5 system-ui,sans-serif;color:var(--text);background:var(--paper);max-width:1180px;
margin:2rem auto;padding:0 1.5rem}
h1{font-size:1.6rem;line-height:1.25;margin:0}
h2{font-size:1.25rem;margin:2.4rem 0 .4rem;border-bottom:1px solid var(--strong)}
h3{font-size:1rem;margin:1.2rem 0 .3rem}
.score{font-size:2rem;line-height:1.25;font-weight:600;margin:.6rem 0 .2rem}
.note{color:var(--muted);max-width:60rem;margin:.4rem 0 .8rem}
.notice{background:var(--notice);border-left:4px solid #c8641c;padding:.4rem .8rem;margin:.8rem 0}
ul,ol{padding-left:1.4rem}
li{max-width:60rem}
a{color:var(--link)}
nav ul{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;padding:0;margin:1rem 0}
h1,h2,p,li,figcaption{overflow-wrap:anywhere}
img{max-width:100%}
.scroll{overflow-x:auto;max-width:100%;margin:0 0 1rem}
.chart img{display:block}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
caption{text-align:left;white-space:nowrap;color:var(--muted);font-size:.9em;padding-bottom:.2rem}
td,th{padding:.2rem .8rem .2rem 0;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
thead th{vertical-align:bottom;border-bottom-color:var(--strong)}
tbody th{font-weight:400}
td.n,th.n,td.v,th.v{text-align:right}
.v,.k{white-space:nowrap}
.row{display:flex;flex-wrap:wrap;gap:1rem;align-items:start}
.row>.scroll:not(.chart){margin-right:1rem}
figure{margin:0;width:150px;font-size:12px;line-height:1.35}
figure img{width:150px;display:block}
figure.pair{width:280px;margin-bottom:.6rem}
figure.pair img{width:138px;display:inline-block;margin-right:2px}
.changed th,.changed td{font-weight:600}
code{font-size:.9em;overflow-wrap:anywhere}
th code{white-space:nowrap}
td code{display:block;min-width:6rem}
@media (max-width:600px){
body{padding:0 1rem;margin:1rem auto}
h1{font-size:1.3rem}
.score{font-size:1.5rem}
.row{gap:.8rem}
figure{width:calc(50% - .4rem)}
figure img{width:100%}
figure.pair{width:100%}
figure.pair img{width:calc(50% - 2px)}
}
@media screen and (prefers-color-scheme:dark){
:root{--text:#e4e4e4;--muted:#b0b0b0;--line:#3a3a3a;--strong:#666;--paper:#161616;--link:#8cbcf0;--notice:#33290f}
.chart img{filter:invert(.91) hue-rotate(180deg)}
}
@media print{
@page{size:A4;margin:14mm}
body{max-width:none;margin:0;padding:0;font-size:9.5pt}
nav{display:none}
h2,h3,.note{break-after:avoid;break-inside:avoid}
.notice{border:1px solid #888}
p,li{orphans:3;widows:3}
figure,tr,img,.chart{break-inside:avoid}
table{break-inside:avoid}
#configuration table{break-inside:auto}
thead{display:table-header-group}
.scroll{overflow:visible}
.chart img{min-width:0!important;max-width:100%;max-height:165mm;object-fit:contain;object-position:left}
table{font-size:7.5pt;max-width:100%}
td,th{padding:.12rem .3rem .12rem 0}
.v{white-space:normal;overflow-wrap:normal}
.row{display:block}
.row>*{display:inline-block;vertical-align:top;margin:0 2.5mm 3mm 0}
.row>.chart{width:57mm}
figure{width:30mm;font-size:7pt}
figure img{width:30mm}
figure.pair{width:42mm;margin:0 2.5mm 3mm 0}
figure.pair img{width:20mm}
}
"""
