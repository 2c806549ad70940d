"""The init of `--init` on machines without a static tini: a program of 2 KB, compiled from init/init.c.

Static and without a C library, it runs in any root. The bytes below are made by init/make.sh.
"""

from __future__ import annotations

import base64
import os
import zlib

_NAME = "docker-init"

# fmt: off
_PROGRAMS = {
    "aarch64": (
        r"c-pO1Urbw782@h1ZTVAHATTLT?S;LN>B<Wvm6&i*r<kbOMjuRkz`OQBE6}dDCBcP+;-93Emt8e6S&V7pFw!TMj4T"
        r")vATx``#KlU~WDhGK0mpP9@qx0*^>^A^=(;8D!IPYOzW?9%`_4J{Oq_W2C5s?XaaiaIac-96JTIH_P20W+WFFYbW"
        r"F;|gYo*d5-?uKBevAA5g<PlBV}2Vw`lvJ4Cn=uEGSU-7pKLNpXPJ;*VV3kNW9c;}rbXzHVR@1D|FQ}_11|@Bo+ME"
        r"x*Y#jhWjwQO7)?Hr^c>bIl5-odT}7-ct4a$bKik8o6S&T25qnyCOlPoRBF#Nb@sDm><EL$ilMD=aZZTW>8sfM%DI"
        r"z-MbBbYjc}^+l^T>AUyh?0p;$HXmD|Ygx0&jb=%${DVrjBW{P2EB6?r$i9_ItlN!f{mrOGUosQXFWregn1&>gtw-"
        r"$P(-o5ws{o6i!!yJ}KnmC^euZA(A4{b)f&INDpYWk#v$s{}FMvfR*Qe6by@WfFZ%iOORvV8hP(_5GxgU%d;{hd3c"
        r"Te0&Pvg_m+h&uOa5`p<|vFf&Cz%|8Wa-@_pm@I986&7&_`<CQereUBVuDU6pi6bb7y@1kHQJdp5aibQ%@1&U?Y_w"
        r"~#jrUtYr>=00A;%Js1O=~vL}z_?f2ywk$-G*Ir#_vM|H2{vO)h%-W^oVzK~_V@MVZADM}FH=O}v{;}8&@JdGj<DW"
        r"M6gfm6Tu55woGj2Bj^KG}Y|?{<@hQi^>#<<+Jd5^t=1s_JVRJ`l*4N%6eU;UwMS)|){?^4aebBF7C7sK-Z^{Bc$X"
        r"_dyFPZX}Ay1%RlBE#CV&*KKkH3J^MYNr*p}CC)IhQyb&ulbN&X}+Qt8IqcWL-2bH^eg?h_x0)4j$*-5A*SoES_=m"
        r"+%E_Z)YMicFV@t`<zF1s+GApS0`ev7MY4tTRE;oo3_Rb5e9ta6>0HnI_&C-D?6Y9w=Lx#yCjBsEE42k&#h&thRzR"
        r"Lb58LWX@Cyg{Id*=}#qUn-^7FI89Qperp`M*R#6<lG33nd%wzZ^pMjy=={SW<PcyHqDruGc)dY?Scb0nRl31q3Ce"
        r"y;atUPsHg{BepVFYvSXC$px<u`b}u;(in`eCyPIN4_OsxDH)j*6Y;og09{*3O1iP^&5K+o||j1X&;Sh?ZaW8GTa_"
        r"L6AX2g@cZn6B2N@pd}uVP460pHFcgeQ$B#>AweX;(j7W+$I69(+Vs5v)nz*t{QpZ%EL|xMBVJSN53rGXOVO0uil0"
        r"T@azF1g$ry9zWsx}ggMuXvy<X1yM)nD`;2x~+5DsX}<KPv8CUobF=|7YRcX%fet5{}fk^8ain<{P_)A(i~cpTYD)"
        r")@I5i^R*a*Y?(g~<Bqr#s&-J1{e**F1cM(A_rYwtXBe{<5YIc#e(u2Pjs~JJEvB3ycT63Nky{J<m6$?qHPAnRE~x"
        r"as47>Sq72mAl`#5XzzlrzTm$6iD`ddssVU^9*d>_l~E6e!iGXGwiY_0`<>_7auFM9~C;=6qGA@-%?Ul^HN$N"
    ),
    "x86_64": (
        r"c-pO1T}&KR6u!I6;1;k83IvT0(`FOeD2wx8+#)nP2zpnirlz!-XiK*27B&KFX7A`WH8OQe<g!`cee>Oz^hu$0*`c"
        r";u8a1Xom_8U|jLO!bg%p3Fl^xHSokeVo@xl9WX3qJ}Irp6J+_^K+uRi1Tct~}5$$o;`SrT^iuxtN7+;Rb12>ilCA"
        r"T^HfHfUQ!<!QK}vE@|R>%|{gtd{)u)#yIu8<a26%nz%j7$l;+EH4_}t%QlxzF_^@FE94X<_vC8@PhD*pD8a<eoHx"
        r"`999MnQ@(kKo?f2v6QX9@RsP+y@5~jp+t}#T+uYEnAWDTD_)WifeFYS1o7OeTubwxBFrirwoitgy5jv<pVx&Ea-f"
        r"E=11A3#8uAzFJkrsM%f#zNoX=dJMU5#8WmTlXnxwisSN&!>%%U61*h57^h%ZNRH#$-Zwmwr<=6{A~ldN8eDRL=tK"
        r"v7y8_kI80a-zC;C-B1I_lp3<F71=y6d4uifE%rS&)v59YmH$Nd7N;9(p^+Vqm+-E&TI>_1NTnl{uRG1q%=#MhgDk"
        r"UJkjr|D%2#`h?neo$S3RFcc=7rm)_VFP((}qu<yGaVa!eTn0_8<DH{o+RJf!kFG_yRSW}l?lXB+9|zQ7*joAQCc<"
        r"0wKX!YJAznX>1N79-Sw1bI4;ATL3J1{-PSl#l4U3Y)-c=?P#7i*+Wjgu|<3{Ms+(cj8+Pk^v^$$~m8dl;+Z67{;s"
        r"2-VeHxZ*ja>U=P%aq^tn+X{$3!(3bonB%cXk=B8?9%7p+7(?9tD9;9qvpbh6lXDb`@1ti&A`;cb412gT8rA+y4hy"
        r"nwE%`;=$j5ByT5y3*6=Nbp_<hiA0n*)`Kusn(hTmuy4oKZ9&CP7zz@%bG4-A8k$e5I#1ZM(1wx{UDo(u1JTELiK{"
        r"C6d`F>rI6Yz)H9O0Ivy1V?A7W4xKX_YfLO85c?LfxACLd&aKn@c>`&i+Yd6|10s_7!dCLgx-yGS){&Fn6b3QL`;b"
        r"Kb?cUkkvS#5JHL(WlyB}#^^^3AuJ#<Sz5_MXJwp9KzG(Krg?3NcRw15xg*9tg9cNj&)KeF<4pAgVLfpJiN!T<5a%"
        r"=Z(lHusL<bU}yKtN9lo%zBTIPCcb{jwXkqqn)YaiSe#&`j+|^;Jj2+5JXQ!hvQvRVm!g5jt=Q{Ejg@3$E2t>tdGU"
        r"VSuhx^BM5d$@pODhB3;r8NhzfdjYuaFqj4#zNwI_$A7V-EWF3G9<Jwpvl}aSXrC5AC5sy`)Pb9V1Kt>@5Y|gsx&Q"
        r"}Ha+-wp|jii{yqQ^;)#nX%gwPY;HqU3*C_3n*Zy=$xY`dL@sDg52vb60$mYxBA~-h!2<tKa4CBlqU3`G>ly|AU9f"
        r"zwiGipFZkL"
    ),
}
# fmt: on


def write_builtin_init(folder: str) -> str:
    """The path of the program in `folder`, written anew; "" on a machine that it was not compiled for.

    Atomic, so that a container that runs keeps what it has. Raises OSError.
    """
    program = _PROGRAMS.get(os.uname().machine)
    if program is None:
        return ""
    path = os.path.join(folder, _NAME)
    temporary = f"{path}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o755)
    try:
        os.fchmod(fd, 0o755)
        os.write(fd, zlib.decompress(base64.b85decode(program)))
    finally:
        os.close(fd)
    os.rename(temporary, path)
    return path
